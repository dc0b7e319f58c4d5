"""Plain headers found at once: the same as one at a time, for sound and for damaged ones, wherever they lie."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.core.errors import TarError
from curation.shards import tar_headers
from curation.shards.tar import REGULAR, Stream, _parse, members
from curation.shards.tar_headers import plain_headers
from curation.shards.tar_writer import TarWriter, header

NAMES = st.sampled_from(["a.jpg", "set/a.json", "n" * 100, "d/", "", "d", "é.txt", "x" * 60 + "/" + "y" * 70])
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_headers, "LEAST", 0)


def made(items: list[tuple[str, int]], form: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name, size in items:
            info = tarfile.TarInfo(name)
            info.size, info.type = (0, tarfile.DIRTYPE) if name.endswith("/") else (size, tarfile.REGTYPE)
            tar.addfile(info, io.BytesIO(header(b"fake.jpg", 5)[:512].ljust(size, b"x")[:size]))
    return file.getvalue()


def walked(data: bytes, block: int) -> list[object]:
    """The members that are found, and the error."""
    found: list[object] = []
    stream = Stream((data[at : at + block] for at in range(0, len(data), block)), len(data))
    try:
        for name, kind, start, offset, length, stop in members(stream):
            found.append((name, kind, start, offset, length, stop, stream.take(length) if length % 3 else b""))
    except TarError as error:
        found.append((error.reason, error.offset, str(error)))
    return found


def one_at_a_time(data: bytes, block: int) -> list[object]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tar_headers, "LEAST", 1 << 40)
        return walked(data, block)


@pytest.mark.slow
@settings(max_examples=150)
@given(
    st.lists(st.tuples(NAMES, st.integers(0, 1600)), max_size=8),
    st.sampled_from(FORMATS),
    st.sampled_from([512, 700, 1 << 20]),
    st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 255)), max_size=2),
    st.integers(0, 3000),
)
def test_members_are_the_same_as_one_at_a_time(
    items: list[tuple[str, int]], form: int, block: int, flips: list[tuple[int, int]], cut: int
) -> None:
    """Of sound archives, and of those with flipped bytes or a cut."""
    data = bytearray(made(items, form))
    for at, value in flips:
        data[at % len(data)] = value
    for whole in (bytes(data), bytes(data[: max(len(data) - cut, 0)])):
        assert walked(whole, block) == one_at_a_time(whole, block)


def header_bytes() -> Iterator[int]:
    yield from (0, 3, 4, 99, *range(124, 157), *range(257, 265), 345, 346, 400, 511)


@pytest.mark.parametrize("at", header_bytes())
def test_nothing_is_plain_that_is_refused(at: int) -> None:
    """Each byte with each value, also with a checksum that matches."""
    sound = header(b"abcd", 1000)
    for value in range(256):
        raw = bytearray(sound)
        raw[at] = value
        for fixed in (False, True):
            if fixed and not 148 <= at < 156:
                total = sum(raw[:148]) + sum(raw[156:]) + 256
                raw[148:156] = b"%06o\0 " % total
            plain = plain_headers(bytes(raw), 0)
            try:
                name, flag, length = _parse(bytes(raw), 0)
            except TarError:
                assert not plain
                continue
            if plain:
                assert plain == {0: length} and flag in b"0\0" and raw[345] == 0 and not name.endswith(b"/")


def test_a_writers_headers_are_all_plain() -> None:
    file = io.BytesIO()
    writer = TarWriter(file)
    offsets = [writer.add(f"{n}.jpg", b"x" * 600 * n) - 512 for n in range(20)]
    writer.close()
    for first in (0, 100):
        found = plain_headers(bytes(first) + file.getvalue(), first)
        assert found == {offset + first: 600 * n for n, offset in enumerate(offsets)}
    assert [kind for _, kind, *_ in walked(file.getvalue(), 4096)] == [REGULAR] * 20
