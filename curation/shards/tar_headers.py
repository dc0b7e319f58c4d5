"""Plain tar headers of a large block of bytes, all found and parsed at once with NumPy.

A header is plain if it is that of a regular file in POSIX's ustar format, without a prefix, whose numbers have the form
that almost every writer gives them. Any other header is left to `tar`, which parses one at a time, and decides alone
what is damaged: this module accepts nothing that `tar` refuses.
Cost: 0.4 us a header and 10 ns a block of 512 bytes, instead of 5 us a header.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LEAST = 64 << 10  # bytes of a block for which NumPy's 60 us a call are worth it

_MAGIC = int.from_bytes(b"\0ustar\0\0", "little")
_MAGIC_BITS = int.from_bytes(b"\0\xff\xff\xff\xff\xff\xff\0", "little")  # bytes 257 to 262, of 256 to 263
_POWERS = 8 ** np.arange(10, -1, -1, dtype=np.int64)
_CHECKSUM_POWERS = _POWERS[-6:]


def plain_headers(data: bytes, first: int) -> dict[int, int]:
    """Return position -> length of the member's data, of each plain header at `first` + a multiple of 512.

    Data of members may look like headers: a position counts only where a header is expected. Empty for small `data`.
    """
    count = (len(data) - first) // 512
    if len(data) < LEAST or count < 1:
        return {}
    blocks = np.frombuffer(data, np.uint8, count * 512, first).reshape(count, 512)
    magic = np.ascontiguousarray(blocks[:, 256:264]).view("<u8")[:, 0]
    places = np.flatnonzero((magic & _MAGIC_BITS) == _MAGIC)
    headers = blocks[places]
    lengths, are_sizes = _octal(headers[:, 124:135], _POWERS)
    sums, are_sums = _octal(headers[:, 148:154], _CHECKSUM_POWERS)
    total = headers.sum(axis=1, dtype=np.int64) - headers[:, 148:156].sum(axis=1, dtype=np.int64) + 8 * ord(" ")
    plain = are_sizes & are_sums & (total == sums)
    plain &= (headers[:, 135] == 0) | (headers[:, 135] == ord(" "))
    plain &= (headers[:, 154] == 0) & (headers[:, 155] == ord(" "))
    plain &= ((headers[:, 156] == ord("0")) | (headers[:, 156] == 0)) & (headers[:, 345] == 0)
    plain &= ~_end_with_slash(headers[:, :100])
    return dict(zip((places[plain] * 512 + first).tolist(), lengths[plain].tolist(), strict=True))


def _octal(
    digits: npt.NDArray[np.uint8], powers: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The numbers in rows of ASCII digits, and whether all of a row are octal digits."""
    values = digits - np.uint8(ord("0"))  # wraps around below the digits
    found: npt.NDArray[np.int64] = values.astype(np.int64) @ powers
    valid: npt.NDArray[np.bool_] = np.all(values < 8, axis=1)
    return found, valid


def _end_with_slash(names: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Whether the last character before the first NUL is a slash, as v7 marks a directory."""
    ended = np.concatenate([names == 0, np.ones((len(names), 1), bool)], axis=1)
    last = ended.argmax(axis=1) - 1
    found: npt.NDArray[np.bool_] = (last >= 0) & (names[np.arange(len(names)), last] == ord("/"))
    return found
