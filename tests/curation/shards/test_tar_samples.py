"""Shards: what is read back, what is refused, and that no damage is silent."""

from __future__ import annotations

import subprocess
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
)

from curation.core.errors import TarError
from curation.shards.tar_samples import REASONS


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
