"""The tar writer: archives that every reader accepts, with pinned bytes; odd names are refused."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tar_archives import (
    read,
    written,
)

from curation.shards.tar_writer import TarWriter


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
