"""Small tar archives of every format, what the reader makes of them, and damage that may not be silent."""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Iterator

import pytest

from curation.core.errors import TarError
from curation.shards.tar_samples import REASONS, TarSample, read_samples
from curation.shards.tar_writer import TarWriter

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


LONG = "a-rather-long-directory-name/" * 4  # 116 characters: does not fit a header's name field


# How a key is spelt so that a format needs its extensions: GNU 'L' headers, pax 'x' headers for each member.
PREFIX = {"ustar": "part/", "gnu": LONG, "pax": LONG + "日本/"}


def archive(members: list[tuple[str, bytes]], fmt: str = "ustar") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=FORMATS[fmt], encoding="utf-8") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def special(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def of_infos(*infos: tarfile.TarInfo, fmt: str = "gnu") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=FORMATS[fmt]) as tar:
        for info in infos:
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return file.getvalue()


def cut_in_blocks(data: bytes, block: int) -> Iterator[bytes]:
    for at in range(0, len(data), block):
        yield data[at : at + block]


def read(data: bytes, block: int = 1 << 16, **limits: int) -> list[TarSample]:
    return list(read_samples(cut_in_blocks(data, block), len(data), **limits))


def reasons(data: bytes, **limits: int) -> dict[str, str | None]:
    return {sample.key: sample.reason for sample in read(data, **limits)}


def refusal(data: bytes) -> str:
    with pytest.raises(TarError) as caught:
        read(data)
    assert caught.value.reason in REASONS and caught.value.reason.startswith("tar_")
    assert 0 <= caught.value.offset <= len(data)
    return caught.value.reason


def shard(count: int, fmt: str = "ustar") -> list[tuple[str, bytes]]:
    rng = random.Random(count)
    members = []
    for i in range(count):
        for extension in ("jpg", "txt", "json"):
            members.append((f"{PREFIX[fmt]}{i:04d}.{extension}", f"{i} {extension} ".encode() * rng.randrange(1, 90)))
    return members


def reason_of(sample: TarSample) -> str | None:
    """Why it can't be used: what the archive shows, or that its caption is gone, as `contents.parse` would say."""
    lost = "txt" not in {part.extension for part in sample.parts}
    return sample.reason or ("missing_text" if lost else None)


def assert_nothing_silent(damaged: bytes, members: list[tuple[str, bytes]], size: int | None = None) -> str:
    """The contract: TarError; or all is there; or what is not intact is matched by samples with a reason.

    Every member comes out once, a good sample has its own image and its own caption. What one bit in an unprotected
    long name can do to a *third* member (the json) is to misname it: then it is still there, under the wrong name.
    """
    try:
        samples = list(read_samples(cut_in_blocks(damaged, 1 << 16), len(damaged) if size is None else size))
    except TarError:
        return "error"
    content = {data for _, data in members}
    assert sum(len(sample.parts) or 1 for sample in samples) == len(members)
    assert all(part.data in content for sample in samples for part in sample.parts)
    expected = {name.partition(".")[0] for name, _ in members}
    intact = misnamed = 0
    for sample in samples:
        if reason_of(sample) is None:
            parts = {part.extension: part.data for part in sample.parts}
            assert sample.key in expected
            number = str(int(sample.key[-4:])).encode()
            assert parts["jpg"].startswith(number + b" jpg ") and parts["txt"].startswith(number + b" txt ")
            intact += 1
            misnamed += "json" not in parts
    flawed = sum(reason_of(sample) is not None for sample in samples)
    assert intact + flawed >= len(expected), "a sample went without a word"
    assert misnamed <= 1
    return "reason" if flawed else "misnamed" if misnamed else "intact"


def rewrite_size(data: bytes, field: bytes) -> bytes:
    header = bytearray(data[:512])
    header[124:136] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


PAIR = [("a.jpg", b"1"), ("a.txt", b"2")]


WHOLE = archive([("a.jpg", b"1" * 700), ("a.txt", b"2")])


def header_blocks(data: bytes, members: list[tuple[str, bytes]]) -> list[int]:
    """Offsets of all blocks that hold no member's data: headers, extension headers and their payload, end blocks."""
    covered: set[int] = set()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for info in tar:
            covered.update(range(info.offset_data, info.offset_data + info.size, 512))
    return [at for at in range(0, len(data), 512) if at not in covered]


def flip(data: bytes, at: int, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[at] ^= 1 << bit
    return bytes(damaged)


def written(members: list[tuple[str, bytes]]) -> tuple[bytes, list[int]]:
    file = io.BytesIO()
    writer = TarWriter(file)
    offsets = [writer.add(name, data) for name, data in members]
    assert writer.close() == writer.close() == len(file.getvalue())
    return file.getvalue(), offsets
