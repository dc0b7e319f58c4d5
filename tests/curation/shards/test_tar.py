"""Shards: what is read back, what is refused, and that no damage is silent."""

from __future__ import annotations

import gzip
import io
import random
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.core.errors import TarError
from curation.shards.tar import MAX_MEMBERS, REASONS, TarSample, TarWriter, read_samples

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


# --- what is read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("block", [1, 511, 512, 700, 1 << 20])
def test_round_trip_whatever_the_blocks(fmt: str, block: int) -> None:
    members = shard(3, fmt)
    data = archive(members, fmt)
    samples = read(data, block)
    assert [sample.key for sample in samples] == [f"{PREFIX[fmt]}{i:04d}" for i in range(3)]
    found = [(f"{sample.key}.{part.extension}", part.data) for sample in samples for part in sample.parts]
    assert found == members
    for sample in samples:
        assert sample.reason is None
        for part in sample.parts:
            assert data[part.offset : part.offset + part.length] == part.data
    assert samples[0].start == 0 and all(a.stop == b.start for a, b in pairwise(samples))


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="/\\."), min_size=1)


@settings(max_examples=60)
@given(
    keys=st.lists(st.tuples(NAMES, st.integers(0, 30)), min_size=1, max_size=5, unique_by=lambda key: key[0]),
    sizes=st.lists(st.integers(0, 1600), min_size=10, max_size=10),
    fmt=st.sampled_from(["gnu", "pax"]),
    block=st.integers(200, 4000),
)
def test_round_trip_of_any_names(keys: list[tuple[str, int]], sizes: list[int], fmt: str, block: int) -> None:
    names = ["d/" + "nested/" * depth + name for name, depth in keys]
    members = [
        (f"{name}.{e}", bytes(sizes[2 * i + j])) for i, name in enumerate(names) for j, e in enumerate(["png", "txt"])
    ]
    samples = read(archive(members, fmt), block)
    assert [(sample.key, sample.reason) for sample in samples] == [(name, None) for name in names]
    assert [(f"{s.key}.{p.extension}", p.data) for s in samples for p in s.parts] == members


def test_v7_headers_and_the_signs_of_old_writers() -> None:
    data = bytearray(archive([("a.jpg", b"1"), ("a.txt", b"2")]))
    for at in (0, 1024):
        data[at + 156] = 0  # v7 has no type,
        data[at + 257 : at + 512] = bytes(255)  # and no magic
        data[at + 148 : at + 156] = b" " * 8
        data[at + 148 : at + 156] = b"%6o\0 " % sum(data[at : at + 512])  # spaces before the digits
    assert reasons(bytes(data)) == {"a": None}


def rewrite_size(data: bytes, field: bytes) -> bytes:
    header = bytearray(data[:512])
    header[124:136] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


def test_base_256_sizes() -> None:
    data = archive([("a.jpg", b"12345"), ("a.txt", b"2")])
    assert reasons(rewrite_size(data, b"\x80" + (5).to_bytes(11, "big"))) == {"a": None}
    assert refusal(rewrite_size(data, b"\x80" + (5 << 60).to_bytes(11, "big"))) == "tar_truncated"
    assert refusal(rewrite_size(data, b"\xff" * 12)) == "tar_bad_header"


NOT_OCTAL = [
    b"0000_0005\0\0\0",
    b"+0000000005\0",
    b"-0000000005\0",
    b"0x000000005\0",
    b"00000000009\0",
    b"5\x004".ljust(12, b"\0"),
]
NOT_OCTAL += [b"\t0000000005\0", b"0000 000005\0", b"\0" * 12, b" " * 12]


@pytest.mark.parametrize("field", NOT_OCTAL)
def test_only_octal_digits_are_a_number(field: bytes) -> None:
    assert refusal(rewrite_size(archive([("a.jpg", b"12345"), ("a.txt", b"2")]), field)) == "tar_bad_header"


def test_grouping_is_webdatasets(tmp_path: Path) -> None:
    import webdataset

    members = [("__meta__", b"m"), ("__dir__/x.jpg", b"m"), ("./a.JPG", b"1"), ("./a.txt", b"2"), ("README", b"r")]
    members += [("b.c/d.png", b"3"), ("README.md", b"r"), ("e/f.seg.png", b"4"), ("e/f.jpg", b"5"), ("e/f.txt", b"6")]
    (tmp_path / "s.tar").write_bytes(archive(members))
    dataset = webdataset.WebDataset(str(tmp_path / "s.tar"), shardshuffle=False)
    theirs = [(s["__key__"], {k: v for k, v in s.items() if not k.startswith("__")}) for s in dataset]
    ours = [
        (s.key, {p.extension: p.data for p in s.parts}) for s in read(archive(members)) if s.reason != "no_extension"
    ]
    assert ours == theirs
    assert ours[-1] == ("e/f", {"seg.png": b"4", "jpg": b"5", "txt": b"6"})


# --- reasons a sample carries -----------------------------------------------------------------------------------

PAIR = [("a.jpg", b"1"), ("a.txt", b"2")]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([("a.txt", b"1")], {"a": "missing_image"}),
        ([("a.jpg", b"1"), ("a.json", b"{}")], {"a": None}),
        ([("a.json", b"{}")], {"a": "missing_image"}),
        ([*PAIR, ("a.png", b"3")], {"a": "several_images"}),
        ([*PAIR, ("a.TXT", b"3")], {"a": "member_repeated"}),
        ([("a.jpg", b"1"), ("a.jpg", b"1")], {"a": "member_repeated"}),
        ([*PAIR, ("b.jpg", b"1"), ("b.txt", b"2"), *PAIR], {"a": "key_repeated", "b": None}),
        ([("README", b""), *PAIR], {"README": "no_extension", "a": None}),
        ([("a.jpg", b"1"), ("./._a.txt", b""), ("a.txt", b"2")], {"./._a.txt": "no_extension", "a": None}),
        ([("/a.jpg", b"1"), ("/a.txt", b"2")], {"/a": "unsafe_name"}),
        ([("../a.jpg", b"1"), ("../a.txt", b"2")], {"../a": "unsafe_name"}),
        ([("b/../a.jpg", b"1")], {"b/../a": "unsafe_name"}),
        ([("b\\a.jpg", b"1")], {"b\\a": "unsafe_name"}),
        ([("a\n.jpg", b"1")], {"a\\x0a": "unsafe_name"}),
        ([("a\x7f", b"1")], {"a\\x7f": "unsafe_name"}),
        ([("a..b.jpg", b"1"), ("a..b.txt", b"2")], {"a": "missing_image"}),
    ],
)
def test_reasons(members: list[tuple[str, bytes]], expected: dict[str, str | None]) -> None:
    assert reasons(archive(members)) == expected
    assert all(reason is None or reason in REASONS for reason in expected.values())


def test_the_first_of_repeated_keys_is_good() -> None:
    samples = read(archive([*PAIR, ("b.jpg", b"1"), *PAIR]))
    assert [(s.key, s.reason) for s in samples] == [("a", None), ("b", None), ("a", "key_repeated")]


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_only_regular_files(kind: bytes) -> None:
    data = of_infos(special("dir", type=tarfile.DIRTYPE), special("a.jpg", type=kind, linkname="/etc/passwd"),
                    special("a.txt", size=3), special("pipe", type=kind))  # fmt: skip
    assert reasons(data) == {"a": "not_regular_file", "pipe": "not_regular_file"}


@pytest.mark.parametrize("fmt", ["gnu", "pax"])
def test_names_that_are_not_utf8_nul_or_endless(fmt: str) -> None:
    bad = LONG + "a\udcff"
    assert (
        list(reasons(of_infos(special(bad + ".jpg"), special("b" * 5000 + ".txt"), fmt=fmt)).values())
        == ["unsafe_name"] * 2
    )
    assert all(
        key.isascii() and key.isprintable() and len(key) <= 4200 for key in reasons(of_infos(special(bad), fmt=fmt))
    )
    if fmt == "pax":
        assert list(reasons(of_infos(special("é\0b.jpg"), fmt=fmt)).values()) == ["unsafe_name"]


def test_samples_are_capped() -> None:
    members = [
        ("a.jpg", bytes(900)),
        ("a.txt", b"2"),
        ("b.jpg", bytes(1100)),
        ("b.txt", b"2"),
        ("c.jpg", b"1"),
        ("c.txt", b""),
    ]
    assert reasons(archive(members), max_sample=1000) == {"a": None, "b": "sample_too_large", "c": None}
    many = archive([(f"a.{i}", b"") for i in range(MAX_MEMBERS + 5)])
    (sample,) = read(many)
    assert sample.reason == "sample_too_large" and len(sample.parts) == MAX_MEMBERS
    assert sample.stop == (MAX_MEMBERS + 5) * 512


# --- archives that are refused ----------------------------------------------------------------------------------

WHOLE = archive([("a.jpg", b"1" * 700), ("a.txt", b"2")])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "tar_empty"),
        (bytes(10240), "tar_empty"),
        (b"<html><body>403 Forbidden</body></html>", "tar_not_a_tar"),
        (b"<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>".ljust(2000), "tar_not_a_tar"),
        (gzip.compress(random.Random(0).randbytes(3000)), "tar_not_a_tar"),
        (b"\0" * 100, "tar_not_a_tar"),
        (WHOLE + WHOLE, "tar_trailing_data"),
        (WHOLE + b"x", "tar_trailing_data"),
        (WHOLE + bytes(2 << 20), "tar_truncated"),
        (WHOLE[:2560] + bytes(512) + WHOLE, "tar_trailing_data"),
        (WHOLE[:2560] + b"x" * 512 + bytes(1024), "tar_bad_header"),
        (WHOLE[:2560] + bytes(512), "tar_truncated"),
        (WHOLE[:700], "tar_truncated"),
        (of_infos(special("a.jpg", type=b"S")), "tar_unsupported"),
        (of_infos(special("a.jpg", type=b"V")), "tar_unsupported"),
        (of_infos(special("a.jpg", type=b"M")), "tar_unsupported"),
        (of_infos(special("a.jpg", pax_headers={"GNU.sparse.major": "1"}), fmt="pax"), "tar_unsupported"),
        (of_infos(special("a.jpg", pax_headers={"foo": "1"}), fmt="pax"), "tar_bad_header"),
        (of_infos(special("a.jpg", pax_headers={"comment": "x" * (1 << 20)}), fmt="pax"), "tar_header_too_large"),
        (archive([("n" * (1 << 20), b"")], "gnu"), "tar_header_too_large"),
        (archive([(LONG + "a.jpg", b"")], "gnu")[:1024] + bytes(1024), "tar_bad_header"),
        (archive([(LONG + "a.jpg", b"")], "gnu")[:1024] + archive([("b.jpg", b"")]), "tar_bad_header"),
        (archive([(LONG + "a.jpg", b"")], "gnu")[:1024] * 2 + WHOLE, "tar_bad_header"),
    ],
)  # fmt: skip
def test_refused(data: bytes, reason: str) -> None:
    assert refusal(data) == reason


def test_compression_is_named() -> None:
    with pytest.raises(TarError, match="gzip"):
        read(gzip.compress(WHOLE))


def test_bytes_received_must_equal_the_size() -> None:
    end = WHOLE.rstrip(b"\0") + bytes(4000)
    for size, reason in [
        (len(end) + 512, "tar_truncated"),
        (len(end) - 512, "tar_trailing_data"),
        (900, "tar_truncated"),
    ]:
        with pytest.raises(TarError) as caught:
            list(read_samples(cut_in_blocks(end, 512), size))
        assert caught.value.reason == reason


def test_a_lying_size_costs_no_memory() -> None:
    assert refusal(rewrite_size(WHOLE, b"\x80" + (1 << 50).to_bytes(11, "big"))) == "tar_truncated"


# --- no damage is silent ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_cut_of_a_hundred_samples(fmt: str) -> None:
    members = shard(100, fmt)
    whole = archive(members, fmt)
    content = len(whole.rstrip(b"\0")) + 511 & -512
    outcomes = {cut: assert_nothing_silent(whole[:cut], members) for cut in range(0, len(whole), 512)}
    intact = {cut for cut, outcome in outcomes.items() if outcome == "intact"}
    assert intact == set(range(content + 1024, len(whole), 512))  # only padding after both end blocks may go
    assert set(outcomes.values()) <= {"error", "intact"}
    assert_nothing_silent(whole[: content + 1024 - 1], members)
    for cut in range(512, len(whole), 512 * 37):  # the same, when the size is known to be another
        assert assert_nothing_silent(whole[:cut], members, size=len(whole)) == "error"


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


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_bit_of_every_header(fmt: str) -> None:
    members = shard(2, fmt)
    data = archive(members, fmt)[: 512 * 52].rstrip(b"\0")
    data += bytes(-len(data) % 512 + 1024)
    blocks = header_blocks(data, members)
    assert len(blocks) == {"ustar": 6, "gnu": 18, "pax": 18}[fmt] + 2
    outcomes: Counter[str] = Counter()
    for at in blocks:
        written = len(data[at : at + 512].rstrip(b"\0"))
        for i in range(512):
            for bit in range(8 if i < written + 2 else 1):  # each bit of what is not zero, one a byte of the rest
                outcomes[assert_nothing_silent(flip(data, at + i, bit), members)] += 1
    assert outcomes["error"] > 0.5 * outcomes.total()
    assert outcomes["misnamed"] == 0 if fmt == "ustar" else outcomes["misnamed"] < 0.002 * outcomes.total()


@pytest.mark.parametrize("fmt", FORMATS)
def test_bits_of_every_header_of_a_hundred_samples(fmt: str) -> None:
    rng = random.Random(fmt)
    members = shard(100, fmt)
    data = archive(members, fmt)
    for at in header_blocks(data, members)[:: 1 if fmt == "ustar" else 3]:
        assert_nothing_silent(flip(data, at + rng.randrange(200), rng.randrange(8)), members)


@settings(max_examples=300)
@given(data=st.binary(max_size=3000), kind=st.sampled_from(["raw", "splice", "pax", "long"]), at=st.integers(0, 2000))
def test_fuzz_raises_nothing_but_tar_errors(data: bytes, kind: str, at: int) -> None:
    if kind == "splice":
        data = WHOLE[:at] + data + WHOLE[at + len(data) :]
    elif kind in ("pax", "long"):
        header = of_infos(special("x", type=b"x" if kind == "pax" else b"L", size=len(data)))[:512]
        data = header + data.ljust(len(data) + 511 & -512, b"\0") + WHOLE
    try:
        for sample in read(data, block=700):
            assert sample.reason is None or sample.reason in REASONS
    except TarError as error:
        assert error.reason in REASONS


# --- the writer -------------------------------------------------------------------------------------------------


def written(members: list[tuple[str, bytes]]) -> tuple[bytes, list[int]]:
    file = io.BytesIO()
    writer = TarWriter(file)
    offsets = [writer.add(name, data) for name, data in members]
    assert writer.close() == writer.close() == len(file.getvalue())
    return file.getvalue(), offsets


@settings(max_examples=40)
@given(sizes=st.lists(st.integers(0, 2000), min_size=2, max_size=12))
def test_written_archives_are_read_back(sizes: list[int]) -> None:
    members = [(f"set/{i // 2:03d}.{('png', 'txt')[i % 2]}", bytes([i + 1]) * size) for i, size in enumerate(sizes)]
    data, offsets = written(members)
    assert written(members) == (data, offsets)
    found = [(f"{s.key}.{p.extension}", p.data, p.offset) for s in read(data) for p in s.parts]
    assert found == [(name, content, offset) for (name, content), offset in zip(members, offsets, strict=True)]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        infos = tar.getmembers()
        assert [(i.name, i.offset_data, i.size) for i in infos] == [
            (n, o, len(d)) for (n, d), o in zip(members, offsets, strict=True)
        ]
        assert {(i.mode, i.mtime, i.uid, i.gid, i.uname, i.gname, i.type) for i in infos} == {
            (0o644, 0, 0, 0, "", "", b"0")
        }


def test_written_archives_are_read_by_gnu_tar_and_webdataset(tmp_path: Path) -> None:
    import webdataset

    members = [("k/1.jpg", b"x" * 1000), ("k/1.txt", b"one"), ("n" * 96 + ".png", b""), ("n" * 96 + ".txt", b"two")]
    path = tmp_path / "shard.tar"
    path.write_bytes(written(members)[0])
    listed = subprocess.run(["tar", "-tf", str(path)], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == [name for name, _ in members] and not listed.stderr
    assert subprocess.run(["tar", "-xOf", str(path), "k/1.txt"], capture_output=True, check=True).stdout == b"one"
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert [(s["__key__"], s["txt"]) for s in samples] == [("k/1", b"one"), ("n" * 96, b"two")]


@pytest.mark.parametrize("name", ["", "/a.jpg", "../a.jpg", "a/", "n" * 101, "é.jpg", "a\n.jpg", "a\\b.jpg", "a\0.jpg"])
def test_the_writer_refuses_odd_names(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        TarWriter(io.BytesIO()).add(name, b"")


def test_the_writers_bytes_are_pinned() -> None:
    from hashlib import sha256

    data, _ = written([("a.jpg", b"1" * 513), ("a.txt", b"caption"), ("a.json", b"{}")])
    assert sha256(data).hexdigest() == "343e66ddf76b7522edf6bdb092e4477261ea613e64e23478f4d22b6c18d436d8"


@pytest.mark.parametrize("fmt", ["v7", "ustar", "gnu", "posix"])
def test_what_gnu_tar_writes(fmt: str, tmp_path: Path) -> None:
    folder = tmp_path / "corpus" / ("x" * 90 if fmt in ("gnu", "posix") else "x") / "inner"
    folder.mkdir(parents=True)
    for i in range(3):
        (folder / f"{i}.jpg").write_bytes(bytes([i]) * 700 * i)
        (folder / f"{i}.txt").write_text(f"caption {i}")
    command = ["tar", "--sort=name", f"--format={fmt}", "-cf", str(tmp_path / "s.tar"), "-C", str(tmp_path), "corpus"]
    subprocess.run(command, check=True)
    samples = read((tmp_path / "s.tar").read_bytes())
    assert [(s.reason, s.parts[0].data, s.parts[1].data) for s in samples] == [
        (None, bytes([i]) * 700 * i, f"caption {i}".encode()) for i in range(3)
    ]


@pytest.mark.parametrize("more", [[], [("txt", b"words")]])  # without captions, the shard is spooled to disk
def test_memory_is_twice_what_is_looked_at_ahead(more: list[tuple[str, bytes]]) -> None:
    import tracemalloc

    size = 40 * ((1 << 20) + 1024 * len(more))

    def blocks() -> Iterator[bytes]:
        for i in range(40):
            file = io.BytesIO()
            writer = TarWriter(file)
            for extension, data in [("jpg", bytes((1 << 20) - 512)), *more]:
                writer.add(f"{i}.{extension}", data)
            yield file.getvalue()
        yield bytes(1024)

    tracemalloc.start()
    assert sum(1 for _ in read_samples(blocks(), size + 1024)) == 40
    assert tracemalloc.get_traced_memory()[1] < 22 << 20
    tracemalloc.stop()
