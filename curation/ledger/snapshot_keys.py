"""Keys and numbers of snapshots, and which of them exist: `snapshots/<000042>.json`, `urls/<000042>.txt`, LATEST."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from curation.core.errors import BucketError, NotFoundError
from curation.ledger.documents import strict_json
from curation.storage.store import Store

LAST = 10**9 - 1  # the largest number
HINT = re.compile(rb"0|[1-9][0-9]{0,8}")  # the content of LATEST: a number without leading zeros, sign or white space
_OF_DOCUMENT = re.compile(r"snapshots/(\d{6,9})\.json")
_OF_URLS = re.compile(r"urls/(\d{6,9})\.txt")


def snapshot_key(number: int) -> str:
    """Return the key of a snapshot's document."""
    return f"snapshots/{number:06d}.json"


def urls_key(number: int) -> str:
    """Return the key of the list of a snapshot's shards."""
    return f"urls/{number:06d}.txt"


def snapshot_number(key: str) -> int:
    """Return the number in the key of a snapshot's document; 0 for any other key."""
    match = _OF_DOCUMENT.fullmatch(key)
    return int(match[1]) if match and snapshot_key(int(match[1])) == key else 0


def urls_number(key: str) -> int:
    """Return the number in the key of a list of shards; 0 for any other key."""
    match = _OF_URLS.fullmatch(key)
    return int(match[1]) if match and urls_key(int(match[1])) == key else 0


def numbers_there(out: Store) -> list[int]:
    """Return the sorted numbers of all snapshots whose documents exist, including damaged ones."""
    return sorted(numbers_in(out, "snapshots", snapshot_number))


def read_raw(out: Store, number: int) -> dict[str, Any] | None:
    """Return the unchecked JSON of a snapshot's document; None if it is missing or not a JSON object."""
    try:
        return raw_object(out.get(snapshot_key(number)))
    except NotFoundError:
        return None


def raw_object(data: bytes) -> dict[str, Any] | None:
    """Parse a JSON object that is not empty, as strictly as documents are parsed; None for anything else."""
    try:
        found = strict_json(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found else None


def hint(out: Store) -> int | None:
    """Return the number in LATEST; None if LATEST is missing or not a number."""
    try:
        text = out.get("LATEST")
    except NotFoundError:
        return None
    return int(text) if HINT.fullmatch(text) else None


def numbers_in(out: Store, folder: str, number_of: Callable[[str], int]) -> set[int]:
    """Return the numbers that `number_of` finds in the keys of a folder; 0 means none."""
    with suppress(BucketError):  # a local folder that does not exist yet
        return {number for item in out.list(folder, etags=False) if (number := number_of(item.key))}
    return set()
