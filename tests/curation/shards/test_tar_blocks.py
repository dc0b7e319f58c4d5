"""Tar bytes of many members at once: equal to those of `TarWriter`, padding zeroed, odd input refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.shards.tar_blocks import BLOCK, blocks_of, copy_members, member_headers
from curation.shards.tar_writer import TarWriter, header

EXTENSIONS = ["jpg", "json", "seg.v1.png", "x" * 60, ""]
MEMBERS = st.lists(
    st.tuples(st.text("0123456789abcdef", min_size=32, max_size=32), st.integers(0, 4), st.integers(0, 1700)),
    max_size=12,
)


def arrays(members: list[tuple[str, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    stems = np.frombuffer("".join(stem for stem, _, _ in members).encode(), np.uint8).reshape(-1, 32)
    which, lengths = (np.array([item[place] for item in members], np.int64) for place in (1, 2))
    return stems, which, lengths


@given(MEMBERS)
def test_headers_equal_the_writers(members: list[tuple[str, int, int]]) -> None:
    stems, which, lengths = arrays(members)
    wanted = [header(f"{stem}.{EXTENSIONS[n]}".encode(), length) for stem, n, length in members]
    assert member_headers(stems, EXTENSIONS, which, lengths).tobytes() == b"".join(wanted)


@pytest.mark.parametrize("length", [0, 8, (1 << 33) - 1])
def test_every_size_has_its_digits(length: int) -> None:
    stems, which, lengths = arrays([("0" * 32, 0, length)])
    assert member_headers(stems, ["jpg"], which, lengths).tobytes() == header(b"0" * 32 + b".jpg", length)


@pytest.mark.parametrize(
    ("stem", "extension", "length"),
    [
        ("0" * 32, "jpg", 1 << 33),
        ("0" * 32, "a/", 1),
        ("0" * 32, "j\\pg", 1),
        ("0" * 32, "x" * 68, 1),
        ("/" * 32, "a", 1),
    ],
)
def test_what_the_writer_refuses_is_refused(stem: str, extension: str, length: int) -> None:
    stems, which, lengths = arrays([(stem, 0, length)])
    with pytest.raises(ValueError, match=r"not a name|do not fit|a stem"):
        member_headers(stems, [extension], which, lengths)


@pytest.mark.slow
@settings(max_examples=60)
@given(MEMBERS, st.integers(0, 6), st.randoms(use_true_random=False))
def test_copies_equal_the_writers(members: list[tuple[str, int, int]], seed: int, random: object) -> None:
    """From a source whose padding is not zero, and which has the members in another order."""
    stems, which, lengths = arrays(members)
    counts = blocks_of(lengths)
    source = np.random.default_rng(seed).integers(1, 255, int(counts.sum() + 3) * BLOCK, np.uint8)
    order = list(range(len(members)))
    random.shuffle(order)  # type: ignore[attr-defined]
    positions, end = np.zeros(len(members), np.int64), 512
    for n in order:
        positions[n], end = end, end + int(counts[n]) * BLOCK
    at = np.cumsum(counts + 1) - counts
    target = np.empty(int((counts + 1).sum()) * BLOCK, np.uint8)
    copy_members(target, at, source, positions, lengths)
    target.reshape(-1, BLOCK)[at - 1] = member_headers(stems, EXTENSIONS, which, lengths)
    file = io.BytesIO()
    writer = TarWriter(file)
    for (stem, n, length), begin in zip(members, positions.tolist(), strict=True):
        writer.add(f"{stem}.{EXTENSIONS[n]}", source[begin : begin + length].tobytes())
    assert target.tobytes() == file.getvalue()


@pytest.mark.parametrize(("position", "error"), [(100, ValueError), (1024, IndexError), (-512, IndexError)])
def test_a_member_that_is_not_there_is_refused(position: int, error: type[Exception]) -> None:
    source, target = np.zeros(1024, np.uint8), np.zeros(1024, np.uint8)
    with pytest.raises(error):
        copy_members(target, np.array([0]), source, np.array([position]), np.array([600]))
