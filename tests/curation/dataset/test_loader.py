"""The sample stream: every sample exactly once over ranks and workers, and what is skipped is counted."""

from __future__ import annotations

import json
import pickle
import re
from collections import Counter
from pathlib import Path

import pytest
from builders import FLAWS, members, picture, write_corpus, write_shard
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from curation.core.errors import ChangedError, EmptyCorpusError, UserError
from curation.core.holdout import content_of, group_of, is_held_out
from curation.core.types import ShardRef
from curation.dataset.loader import CONTENT, ListedShard, SampleStream, split_label
from curation.dataset.open_shards import open_shards
from curation.dataset.sample_weights import SampleWeights
from curation.shards.tar_writer import TarWriter
from curation.storage.store import open_store

SIZES = (7, 1, 12, 5, 9)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    for shard, n in enumerate(SIZES):
        write_shard(root / f"{shard:05d}.tar", shard, n, flaws=False)
    return root


@pytest.fixture(scope="module")
def counted(corpus: Path) -> list[ListedShard]:
    return [shard._replace(samples=n) for shard, n in zip(open_shards(str(corpus)), SIZES, strict=True)]


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (1, 3), (3, 0), pytest.param(4, 2, marks=pytest.mark.slow)])
def test_every_sample_once_and_shares_equal(counted: list[ListedShard], world: int, workers: int) -> None:
    shares = []
    for rank in range(world):
        stream = SampleStream(counted, size=16, shuffle=5, rank=rank, world=world)
        loader = DataLoader(stream, batch_size=4, num_workers=workers)
        shares.append([uid for _, _, uids, _ in loader for uid in uids])
    assert sum(map(len, shares)) == len({uid for share in shares for uid in share}) == sum(SIZES)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=12),
    shares=st.integers(1, 9),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 3),
)
def test_plans_partition_the_epoch(counts: list[int], shares: int, seed: int, epoch: int) -> None:
    store = open_store("memory://plans")
    shards = [ListedShard(store, ShardRef(str(i), 1, ""), n) for i, n in enumerate(counts)]
    stream = SampleStream(shards, size=8, seed=seed)
    stream.set_epoch(epoch)
    plans = [stream.plan(share, shares) for share in range(shares)]
    covered = Counter((shard.ref.key, i) for plan in plans for shard, low, high in plan for i in range(low, high or 0))
    assert covered == Counter((str(i), j) for i, n in enumerate(counts) for j in range(n))
    sizes = [sum((high or 0) - low for _, low, high in plan) for plan in plans]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("world", [1, 2, 7])
def test_uncounted_shards_are_dealt_out_whole(corpus: Path, world: int) -> None:
    streams = [SampleStream(open_shards(str(corpus)), size=16, rank=rank, world=world) for rank in range(world)]
    uids = [example.uid for stream in streams for example in stream]
    assert len(uids) == len(set(uids)) == sum(SIZES)


def test_order_is_the_seeds_and_the_epochs(counted: list[ListedShard]) -> None:
    def order(seed: int, epoch: int, shuffle: int = 8) -> list[str]:
        stream = SampleStream(counted, size=8, seed=seed, shuffle=shuffle)
        stream.set_epoch(epoch)
        return [example.uid for example in stream]

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    assert sorted(order(0, 0)) == sorted(order(1, 1))
    assert order(0, 0, shuffle=0) == order(5, 7, shuffle=0)


@pytest.mark.parametrize(("shuffle", "workers"), [(0, 0), (5, 2)])
def test_each_as_often_as_it_weighs(counted: list[ListedShard], shuffle: int, workers: int) -> None:
    uids = [example.uid for example in SampleStream(counted, size=16, shuffle=0)]
    weights = SampleWeights({uids[0]: 3.0, uids[1]: 0.0, uids[2]: 0.0}, len(uids))
    stream = SampleStream(counted, size=16, shuffle=shuffle, weights=weights)
    found = Counter(uid for _, _, batch, _ in DataLoader(stream, batch_size=4, num_workers=workers) for uid in batch)
    assert found == Counter(dict.fromkeys(uids, 1)) + Counter({uids[0]: 2}) - Counter(uids[1:3])


def test_examples_are_what_the_shard_holds(counted: list[ListedShard]) -> None:
    first = next(iter(SampleStream(counted, size=24, shuffle=0)))
    assert first.pixels.shape == (24, 24, 3) and first.pixels.dtype == "uint8"
    assert (first.caption, first.label) == ("thing", "thing-0")
    assert next(iter(SampleStream(counted, size=24, shuffle=0, label="number"))).label == "0"
    both = next(iter(SampleStream(counted, size=24, shuffle=0, label=("number", CONTENT)))).label
    assert split_label(both) == ["0", content_of(picture(0, "png"))]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_flaws_are_counted(tmp_path: Path, workers: int) -> None:
    write_corpus(tmp_path, shards=2, n=30)
    stream = SampleStream(open_shards(str(tmp_path)), size=16)
    seen = sum(len(batch[2]) for batch in DataLoader(stream, batch_size=8, num_workers=workers))
    skipped = stream.skipped
    assert skipped["tar_truncated"] == 1 and skipped["tar_not_a_tar"] == 1
    for reason in FLAWS.values():
        assert skipped[reason] >= 2  # one in each whole shard, and what the cut one still shows
    assert seen >= 2 * (30 - len(FLAWS))


def test_a_shard_that_holds_another_number_is_an_error(counted: list[ListedShard]) -> None:
    for wrong in (SIZES[0] - 1, SIZES[0] + 1):
        with pytest.raises(ChangedError, match="has 7 samples"):
            list(SampleStream([counted[0]._replace(samples=wrong)], size=8))


def test_parts_are_disjoint_whole_and_split_no_group(counted: list[ListedShard]) -> None:
    parts = {
        part: list(SampleStream(counted, size=8, part=part, holdout=0.4))  # type: ignore[arg-type]
        for part in ("train", "held_out", "all")
    }
    uids = {part: {example.uid for example in examples} for part, examples in parts.items()}
    assert uids["train"] | uids["held_out"] == uids["all"] and not uids["train"] & uids["held_out"]
    labels = {part: {example.label for example in examples} for part, examples in parts.items()}
    assert labels["held_out"] and not labels["train"] & labels["held_out"]


@pytest.mark.parametrize("group", ["name", "", "number"])
def test_exact_duplicates_without_a_name_are_on_one_side(tmp_path: Path, group: str) -> None:
    """Each picture in two shards, under other keys, captions and positions."""
    for shard in (0, 1):
        with (tmp_path / f"{shard}.tar").open("wb") as file:
            writer = TarWriter(file)
            for number in range(40):
                writer.add(f"{shard}-{number:02d}.png", picture(39 - number if shard else number, "png"))
                writer.add(f"{shard}-{number:02d}.json", json.dumps({"name": " ", "place": number}).encode())
                writer.add(f"{shard}-{number:02d}.txt", f"caption {shard} {number}".encode())
            writer.close()
    found = {}
    for part in ("train", "held_out"):
        stream = SampleStream(
            open_shards(str(tmp_path)),
            size=8,
            shuffle=0,
            part=part,
            holdout=0.4,
            group=group,
            label="place",  # type: ignore[arg-type]
        )
        rows = [(example.caption.split()[1], int(example.label)) for example in stream]
        found[part] = {39 - place if shard == "1" else place for shard, place in rows}
        assert len(rows) == 2 * len(found[part])
    assert not found["train"] & found["held_out"] and found["train"] | found["held_out"] == set(range(40))
    assert 8 < len(found["held_out"]) < 24


def test_groups() -> None:
    assert group_of("Arrow-Left", b"u") == group_of("arrow  left!", b"v") == "arrow left"
    assert group_of("", b"u") == group_of("—", b"u") == content_of(b"u") != group_of("", b"v")
    assert group_of("日本", b"u") == "日本"
    shares = [is_held_out(f"group {i}", 0.2) for i in range(5000)]
    assert 0.18 < sum(shares) / 5000 < 0.22
    assert not any(is_held_out(f"group {i}", 0.0) for i in range(100))
    assert all(is_held_out(f"group {i}", 1.0) for i in range(100))


def test_streams_travel(counted: list[ListedShard]) -> None:
    stream = pickle.loads(pickle.dumps(SampleStream(counted, size=8)))  # noqa: S301
    assert len(list(stream)) == sum(SIZES)


def test_mistakes(counted: list[ListedShard], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rank and world"):
        SampleStream(counted, size=8, rank=0)
    with pytest.raises(EmptyCorpusError):
        open_shards(str(tmp_path))


@pytest.mark.parametrize("uid", ["x", "abcd", 7, "F" * 32, "../../../../../../../../../../etc/pw", None])
def test_a_uid_that_none_of_ours_wrote_is_no_uid(tmp_path: Path, uid: object) -> None:
    with (tmp_path / "a.tar").open("wb") as file:
        writer = TarWriter(file)
        for number, (name, data) in enumerate(members(0, 2, flaws=False)):
            record = name.endswith(".json")
            writer.add(name, json.dumps({"name": f"{number}", "tutelage": {"uid": uid}}).encode() if record else data)
        writer.close()
    uids = [example.uid for example in SampleStream(open_shards(str(tmp_path)), size=8)]
    assert len(uids) == 2 and all(re.fullmatch("[0-9a-f]{32}", uid) for uid in uids) and len(set(uids)) == 2
