"""Members become samples: grouping as webdataset does it, reasons, and bounded memory."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from tar_archives import (
    PAIR,
    archive,
    read,
    reasons,
)

from curation.shards.tar_samples import MAX_MEMBERS, REASONS, read_samples
from curation.shards.tar_writer import TarWriter


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
