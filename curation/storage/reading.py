"""Reads that don't trust the network: a range resumed after each cut, and an object compared with what was put.

A resumed read is pinned to the state of the object in which it began. Cost: one request, and one more for each cut.
"""

from __future__ import annotations

from hashlib import sha256

from curation.core.errors import NotFoundError, StoreError
from curation.storage.backend import Backend
from curation.storage.errors import LATER, TransientError, is_web_page
from curation.storage.retry import RetryBudget

WHOLE = 16 << 20  # bytes. A body comes in one piece if it can: joining small ones costs as much as the network
PIECE = 256 << 10  # bytes. After a cut, small pieces, so that what arrives before the next cut is kept
READ_BACKS = 3  # reads of an object after a put whose answer was lost


def read_range(
    backend: Backend,
    key: str,
    offset: int,
    length: int | None,
    etag: str | None,
    location: str,
    budget: RetryBudget,
) -> tuple[bytes, str]:
    """Read exactly `length` bytes from `offset`, or to the end for None, of the object with this etag if one is given.

    `key` is the full key, `location` the URL for messages. Returns (bytes, pin): see `Store._read`.
    """
    pieces: list[bytes] = []
    have, pin, piece = 0, etag, WHOLE
    while length is None or have < length:
        good = len(pieces), have
        try:
            rest = None if length is None else length - have
            info, stream = backend.open(key, offset + have, rest, pin, piece)
            pin = info.etag or pin
            length = info.size - offset if length is None else length
            if offset + length > info.size:
                raise StoreError(f"{location} ends at byte {info.size}, before byte {offset + length}")
            for part in stream:
                if have + len(part) > length:
                    have = good[1]
                    del pieces[good[0] :]
                    raise TransientError(f"{location} returned more bytes than were requested")
                pieces.append(part)
                have += len(part)
                budget.renew()
            if have < length:
                raise TransientError(f"{location} was cut off at byte {offset + have}")
        except StoreError as error:
            budget.retry(error)
            piece = PIECE
    return pieces[0] if len(pieces) == 1 else b"".join(pieces), pin or ""


def holds(backend: Backend, key: str, data: bytes, others: set[bytes], location: str) -> bool | None:
    """Whether the object's bytes are `data`; None if there is no object.

    Other bytes count as another writer's object only when they are read twice, because an answer may be damaged;
    `others` collects their hashes. Raises `TransientError` if no read is conclusive.
    """
    for _ in range(READ_BACKS):
        try:
            info, pieces = backend.open(key, 0, None, None, PIECE)
            found = b"".join(pieces)
        except NotFoundError:
            return None
        if found == data:
            return True
        if len(found) == info.size and not is_web_page(found):
            if (name := sha256(found).digest()) in others:
                return False
            others.add(name)
    raise TransientError(f"{location} can't be read back", fix=LATER)
