"""Random parts of a source corpus: of an exact size, the same everywhere, read from the shards where they lie."""

from __future__ import annotations

import pytest
from builders import PLAIN, write_corpus, write_recipe
from running import curate

from curation.core.errors import UserError
from curation.dataset import random_subset as subset_module
from curation.dataset.loader import SampleStream
from curation.dataset.random_subset import random_subset, source_shards, usable
from curation.dataset.snapshot import Snapshot

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    root = tmp_path_factory.mktemp("subset")
    write_corpus(root / "corpus", 3, 40)
    found: Snapshot = curate(write_recipe(root / "r.yaml", f"{root}/corpus", f"{root}/out", "", "", **PLAIN)).snapshot
    return found


def uids(snapshot: Snapshot, where: str) -> list[str]:
    rows = snapshot.manifest.query(f"SELECT uid FROM manifest WHERE {where}")
    return sorted(rows.column("uid").to_pylist())


def test_the_pool_is_all_that_can_be_read(snapshot: Snapshot) -> None:
    stream = SampleStream(source_shards(snapshot), size=16, shuffle=0)
    assert sorted(example.uid for example in stream) == uids(snapshot, "decision <> 'quarantined'")
    assert len(stream.shards) == 3, "an error page and a cut archive hold nothing usable"
    assert usable(snapshot) == len(uids(snapshot, "decision <> 'quarantined'"))


def test_a_random_part_is_of_the_size_asked_for(snapshot: Snapshot) -> None:
    pool = uids(snapshot, "decision <> 'quarantined'")
    for samples in (1, 17, snapshot.document["samples"]["kept"], len(pool)):
        subset = random_subset(snapshot, samples, seed=3)
        stream = SampleStream(source_shards(snapshot), size=16, shuffle=50, subset=subset)
        read = [example.uid for example in stream]
        assert len(read) == samples and sorted(read) == [uid for uid in pool if subset.holds(uid)]
    assert random_subset(snapshot, 17, seed=3) == random_subset(snapshot, 17, seed=3)
    drawn = [set(filter(random_subset(snapshot, 17, seed).holds, pool)) for seed in (3, 4)]
    assert drawn[0] != drawn[1]


def test_sizes_are_exact_where_hashes_begin_alike(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subset_module, "_HEAD", 1)
    pool = uids(snapshot, "decision <> 'quarantined'")
    for samples in range(1, len(pool) + 1, 7):
        assert sum(map(random_subset(snapshot, samples, seed=0).holds, pool)) == samples


@pytest.mark.parametrize("samples", [0, 10_000])
def test_sizes_that_there_are_not(snapshot: Snapshot, samples: int) -> None:
    with pytest.raises(UserError, match=f"{samples:,} samples can't be drawn"):
        random_subset(snapshot, samples, seed=0)
