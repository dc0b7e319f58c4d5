"""Shards whose samples' members are not adjacent, as `tar cf x.tar folder` makes them: read whole, and the same way by
everybody who reads them."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import PLAIN, picture, problems, write_recipe
from hypothesis import given
from hypothesis import strategies as st
from running import curate

from curation.core.errors import TarError
from curation.shards import sample_reader, tar_groups, tar_samples
from curation.shards.sample_reader import SampleReader
from curation.shards.tar_samples import TarSample, read_samples
from curation.storage.store import Store, open_store

Members = list[tuple[str, bytes]]


def archive(members: Members) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return file.getvalue()


def of_samples(n: int, *, images: bool = False) -> Members:
    members = []
    for i in range(n):
        image = picture(i, "png", side=16) if images else f"image {i} ".encode() * (1 + i % 50)
        value = json.dumps({"number": i, "name": f"thing-{i}"}).encode()
        members += [
            (f"s{i:04d}.png", image),
            (f"s{i:04d}.txt", f"thing number {i}".encode()),
            (f"s{i:04d}.json", value),
        ]
    return members


def shuffled(members: Members, seed: int = 0) -> Members:
    return random.Random(seed).sample(members, len(members))


def read(data: bytes, block: int = 1 << 16, **options: Any) -> list[TarSample]:
    blocks: Iterator[bytes] = (data[at : at + block] for at in range(0, len(data), block))
    return list(read_samples(blocks, len(data), **options))


def contents(samples: list[TarSample]) -> dict[str, dict[str, bytes]]:
    return {sample.key: {part.extension: part.data for part in sample.parts} for sample in samples}


@pytest.mark.parametrize("order", ["shuffled", "by kind", "by kind, json last"])
@pytest.mark.parametrize("n", [5, 600])
def test_members_in_any_order_are_whole_samples(order: str, n: int) -> None:
    members = of_samples(n)
    expected = contents(read(archive(members)))
    kinds = {"by kind": ["txt", "png", "json"], "by kind, json last": ["png", "txt", "json"]}
    if order == "shuffled":
        members = shuffled(members)
    else:
        members.sort(key=lambda member: (kinds[order].index(member[0].rpartition(".")[2]), member[0]))
    data = archive(members)
    samples = read(data)
    assert {sample.reason for sample in samples} == {None}
    assert contents(samples) == expected and len(samples) == n
    assert [sample.start for sample in samples] == sorted(sample.start for sample in samples)
    for sample in samples:
        assert data[sample.start : sample.start + 5].decode() == sample.key
        assert all(data[part.offset : part.offset + part.length] == part.data for part in sample.parts)
        assert sample.start + 512 == sample.parts[0].offset and sample.stop >= sample.parts[-1].offset


def test_an_extension_that_returns_is_a_repeated_key() -> None:
    members = [("a.png", b"1"), ("b.png", b"2"), ("a.txt", b"3"), ("b.txt", b"4"), ("a.png", b"5"), ("a.json", b"{}")]
    found = read(archive(members))
    assert [(s.key, s.reason, [p.data for p in s.parts]) for s in found] == [
        ("a", None, [b"1", b"3"]),
        ("b", None, [b"2", b"4"]),
        ("a", "key_repeated", [b"5", b"{}"]),
    ]


def test_strays_and_flaws_are_kept() -> None:
    members = [("a.png", b"1"), ("README", b"x"), ("b.txt", b"2"), ("a.txt", b"3"), ("c.png", b"4"), ("c.jpg", b"5")]
    found = read(archive(members))
    assert [(s.key, s.reason) for s in found] == [
        ("a", None), ("README", "no_extension"), ("b", "missing_image"), ("c", "several_images")
    ]  # fmt: skip


@given(
    names=st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from(["png", "txt", "json", "jpg"])), max_size=14),
    block=st.sampled_from([512, 700, 1 << 16]),
)
def test_no_member_is_lost_whatever_the_order(names: list[tuple[str, str]], block: int) -> None:
    members = [(f"{key}.{extension}", bytes([i])) for i, (key, extension) in enumerate(names)]
    if not members:
        return
    samples = read(archive(members), block)
    assert Counter(part.data for sample in samples for part in sample.parts) == Counter(data for _, data in members)
    assert all(sample.key == members[part.data[0]][0][0] for sample in samples for part in sample.parts)
    assert len({sample.start for sample in samples}) == len(samples)
    for sample in samples:
        if sample.reason is None:
            assert len({part.extension for part in sample.parts}) == len(sample.parts)


def test_a_shard_that_is_too_large_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    data = archive(shuffled(of_samples(40)))
    monkeypatch.setattr(tar_samples, "MAX_INTERLEAVED", len(data) - 1)
    samples = read(data)
    apart = [sample for sample in samples if sample.reason == "not_adjacent"]
    assert len(apart) > 20 and {sample.detail for sample in apart} == {"sort it: tar --sort=name"}
    assert tar_samples.REASONS["not_adjacent"].startswith("sort it: tar --sort=name")
    assert sum(len(sample.parts) for sample in samples) == 120


def test_a_shard_of_too_many_members_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_samples, "MAX_INTERLEAVED_MEMBERS", 50)
    monkeypatch.setattr(tar_groups, "AHEAD_GROUPS", 20)
    with pytest.raises(TarError, match="sort it: tar --sort=name") as caught:
        read(archive(shuffled(of_samples(40))))
    assert caught.value.reason == "tar_not_sorted"


def test_a_member_far_from_its_sample_costs_that_sample_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_groups, "AHEAD_GROUPS", 10)
    late = [member for member in of_samples(40) if member[0] != "s0001.json"] + [("s0001.json", b"{}")]
    flaws = {(sample.key, sample.reason) for sample in read(archive(late)) if sample.reason}
    assert flaws == {("s0001", "not_adjacent")}


def test_samples_without_captions_are_looked_at_by_index_and_still_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_groups, "AHEAD_GROUPS", 10)
    members = [(f"{i}.png", b"x") for i in range(100)]
    assert [sample.key for sample in read(archive(members))] == [str(i) for i in range(100)]


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_a_cut_gives_what_was_there_and_the_error(share: float) -> None:
    data = archive(shuffled(of_samples(40)))
    cut = data[: int(len(data) * share)]
    found: list[TarSample] = []
    with pytest.raises(TarError):
        found.extend(read_samples([cut], len(cut)))
    for sample in read_samples([data], len(data)):
        found.append(sample)
    assert len(found) >= 40


def test_what_never_came_is_in_no_sample() -> None:
    data = archive(shuffled(of_samples(40)))
    whole = contents(read(data))
    for came in range(1000, len(data), 4321):
        found: list[TarSample] = []
        with pytest.raises(TarError):  # the store promised more
            found.extend(read_samples([data[:came]], len(data)))
        found = []
        try:
            for sample in read_samples([data[:came]], len(data), interleaved=True):
                found.append(sample)
        except TarError:
            pass
        for key, parts in contents(found).items():
            assert parts.items() <= whole[key].items()


# --- the whole way ------------------------------------------------------------------------------------------------


def recipe_for(folder: Path, samples: int) -> Path:
    """A recipe that keeps everything, in output shards of so many samples."""
    changes: dict[str, Any] = {**PLAIN, "filters": [], "shards": {"samples": samples}}
    return write_recipe(folder / "r.yaml", str(folder / "in"), str(folder / "out"), "", "", **changes)


@pytest.mark.slow
def test_everybody_reads_the_same_samples(tmp_path: Path) -> None:
    from curation.dataset.loader import SampleStream
    from curation.dataset.open_shards import open_shards
    from jobs.pages.gallery import content

    members = of_samples(60, images=True)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tar").write_bytes(archive(shuffled(members)))
    (tmp_path / "in" / "b.tar").write_bytes(archive(of_samples(10, images=True)))
    recipe = recipe_for(tmp_path, samples=7)
    snapshot = curate(recipe).snapshot
    assert snapshot.document.samples.kept == 70
    originals = dict(members)
    rows = {row["uid"]: row for row in snapshot.manifest.to_arrow().to_pylist()}
    for sample in snapshot.samples():
        row = rows[sample.uid]
        if row["source_key"] == "a.tar":
            assert sample.image == originals[f"{row['key']}.png"]
            assert sample.caption.encode() == originals[f"{row['key']}.txt"]
            assert sample.metadata["name"] == f"thing-{int(row['key'][1:])}"
            assert sample.source.offset == row["source_offset"] and sample.source.length == row["source_length"]
        pixels, caption = content(snapshot, row)
        assert caption == sample.caption and pixels is not None and pixels.shape[:2] == (row["height"], row["width"])
    for shards in (open_shards(str(tmp_path / "in")), snapshot.loader_shards()):
        stream = SampleStream(shards, size=16, shuffle=0)
        assert {found.uid for found in stream} == set(rows) and not stream.skipped
    assert problems(recipe) == []


def test_a_scattered_shard_is_read_once_however_many_shards_it_fills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    data = archive(shuffled(of_samples(60, images=True)))
    (tmp_path / "in" / "a.tar").write_bytes(data)
    seen: list[int] = []
    plain = Store._read

    def counted(self: Store, key: str, offset: int, length: int, etag: str | None) -> Any:
        if key == "a.tar":
            seen.append(length)
        return plain(self, key, offset, length, etag)

    monkeypatch.setattr(Store, "_read", counted)
    recipe = recipe_for(tmp_path, samples=5)
    assert curate(recipe).snapshot.document.samples.kept == 60
    assert sum(seen) == 2 * len(data), "once to score, once to write"


def test_single_samples_are_read_from_one_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = archive(shuffled(of_samples(30)))
    (tmp_path / "a.tar").write_bytes(data)
    monkeypatch.setattr(sample_reader, "DIRECT", 1000)
    expected = read(data)
    with SampleReader(open_store(str(tmp_path))) as reader:
        for sample in expected:
            found = reader.read("a.tar", "", sample.start, sample.stop - sample.start)
            assert contents([found]) == contents([sample]) and found.reason is None
        assert len(reader._copies) == 1
    assert not reader._copies
