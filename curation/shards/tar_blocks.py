"""Tar bytes of many members at once, as NumPy arrays of 512-byte blocks: headers made, and data copied.

The bytes equal those of `TarWriter`, which makes one member at a time: use it for a few members, and this module for
thousands. Cost: 0.5 us a header and 50 ns a copied block, instead of 6 us of Python a member.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from curation.shards.tar_writer import MAX_LENGTH, MAX_NAME, checked_name, header

BLOCK = 512

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

_SIZE, _CHECKSUM = slice(124, 135), slice(148, 154)  # the octal digits of both fields
_EMPTY = np.frombuffer(header(b"", 0), np.uint8)
_SUM = sum(header(b"", 0)[:148]) + sum(header(b"", 0)[156:]) + 8 * ord(" ") - 11 * ord("0")  # without size's digits
_KEPT = np.tri(BLOCK, BLOCK, -1, dtype=np.uint8) * np.uint8(255)  # row n keeps the first n bytes of a block
_KEPT[0] = 255  # a last block without padding is full


def member_headers(stems: Bytes, extensions: Sequence[str], which: Integers, lengths: Integers) -> Bytes:
    """Return the headers, uint8 [N, 512], of members named `<stem>.<extension>`.

    stems: ASCII, uint8 [N, S]. which: of each member the index in `extensions`, [N]. lengths: bytes of data, [N].
    Raises `ValueError` for a name or a length that `TarWriter` refuses.
    """
    suffixes = _suffixes(stems, extensions)
    if len(lengths) and lengths.max() >= MAX_LENGTH:
        raise ValueError(f"{lengths.max()} bytes do not fit a ustar header (8 GiB)")
    found = np.empty((len(stems), BLOCK), np.uint8)
    found[:] = _EMPTY
    width = stems.shape[1]
    found[:, :width] = stems
    found[:, width : width + suffixes.shape[1]] = suffixes[which]
    digits = _octal(lengths, 11)
    found[:, _SIZE] = digits
    sums = [part.sum(axis=1, dtype=np.int64) for part in (stems, suffixes, digits)]
    found[:, _CHECKSUM] = _octal(_SUM + sums[0] + sums[1][which] + sums[2], 6)
    return found


def _suffixes(stems: Bytes, extensions: Sequence[str]) -> Bytes:
    """The end of each name, with its dot, padded with NULs. Checks the names that the first stem makes."""
    if not len(stems):
        return np.zeros((len(extensions), 0), np.uint8)
    if stems.min() < ord("0") or stems.max() > ord("z"):
        raise ValueError("a stem has characters other than letters and digits")
    ends = [checked_name(f"{stems[0].tobytes().decode()}.{extension}")[stems.shape[1] :] for extension in extensions]
    width = max(map(len, ends), default=0)
    assert stems.shape[1] + width <= MAX_NAME
    return np.array([list(end.ljust(width, b"\0")) for end in ends], np.uint8).reshape(len(ends), width)


def _octal(numbers: Integers, digits: int) -> Bytes:
    shifts = 3 * np.arange(digits - 1, -1, -1)
    return (((numbers[:, None] >> shifts) & 7) + ord("0")).astype(np.uint8)


def padded(texts: Iterable[bytes]) -> Bytes:
    """Return texts, each padded with zeros to whole blocks: uint8 [blocks, 512]."""
    joined = b"".join([text.ljust(-(-len(text) // BLOCK) * BLOCK, b"\0") for text in texts])
    return np.frombuffer(joined, np.uint8).reshape(-1, BLOCK)


def blocks_of(lengths: Integers) -> Integers:
    """Return how many blocks the data of each member take."""
    return -(-lengths // BLOCK)


def copy_members(target: Bytes, at: Integers, source: Bytes, positions: Integers, lengths: Integers) -> None:
    """Copy members' data between arrays of blocks; padding becomes zeros, whatever it is in the source.

    The other blocks of `target` are undefined afterwards. target, source: whole blocks, uint8. at: of each member the
    first block of its data in `target`, [N]. positions: the first byte in `source`, a multiple of 512, [N]. lengths:
    bytes, [N]. Raises `ValueError` and `IndexError` for positions that are no blocks of the source.
    """
    counts, first = blocks_of(lengths), positions // BLOCK
    if (positions % BLOCK).any():
        raise ValueError("a member does not begin at a block")
    if len(lengths) and (first.min() < 0 or (first + counts).max() * BLOCK > len(source)):
        raise IndexError("a member lies beyond the source")
    filled = counts > 0
    at, first, counts, ends = at[filled], first[filled], counts[filled], lengths[filled] % BLOCK
    if not len(at):
        return
    to, of = target.reshape(-1, BLOCK), source.reshape(-1, BLOCK)
    index = np.zeros(len(to), np.int64)  # one pass over all of the target takes half the time of a pass in and one out
    index[concatenated_ranges(at, counts)] = concatenated_ranges(first, counts)
    np.take(of, index, axis=0, out=to, mode="clip")
    to[at + counts - 1] &= _KEPT[ends]


def concatenated_ranges(starts: Integers, counts: Integers) -> Integers:
    """Concatenate `range(start, start + count)` of every pair: int64 [sum of counts]."""
    ends = np.cumsum(counts)
    return np.repeat(starts - ends + counts, counts) + np.arange(ends[-1] if len(ends) else 0)
