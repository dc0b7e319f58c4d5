"""Shards: what is read back, what is refused, and that no damage is silent."""

from __future__ import annotations

import io
import subprocess
import tarfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tar_archives import (
    FORMATS,
    PREFIX,
    WHOLE,
    archive,
    assert_nothing_silent,
    of_infos,
    read,
    shard,
    special,
    written,
)

from curation.core.errors import TarError
from curation.shards.tar_samples import REASONS
from curation.shards.tar_writer import TarWriter


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


@pytest.mark.slow
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
