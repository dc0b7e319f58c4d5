"""A URL for training names a snapshot by its number, the latest one, or the tars of a folder."""

from __future__ import annotations

import pytest

from curation.core.errors import TutelageError
from curation.dataset.open_shards import latest_of, open_shards
from curation.dataset.snapshot import Snapshot


def test_a_dataset_is_its_latest_snapshot(two_snapshots: tuple[Snapshot, Snapshot]) -> None:
    out = two_snapshots[1].store.url
    assert latest_of(out) == latest_of(f"{out}/") == f"{out}@latest"
    for url in (f"{out}@1", f"{out}@latest", f"{out}/*.tar", f"{out}/data/x.tar", f"{out}/{{0..3}}.tar"):
        assert latest_of(url) == url


@pytest.mark.parametrize("number", [1, 2])
def test_shards_of_a_snapshot_are_its_output(two_snapshots: tuple[Snapshot, Snapshot], number: int) -> None:
    snapshot = two_snapshots[number - 1]
    found = open_shards(f"{snapshot.store.url}@{number}")
    assert [shard.ref.key for shard in found] == snapshot.shard_keys()
    if number == 2:
        assert [shard.ref for shard in open_shards(snapshot.store.url)] == [shard.ref for shard in found]


def test_a_folder_of_tars_is_all_of_them(two_snapshots: tuple[Snapshot, Snapshot]) -> None:
    corpus = two_snapshots[0].store.url.removesuffix("out") + "corpus"
    names = [f"0000{n}.tar" for n in range(4)] + ["90000.tar", "90001.tar"]
    assert [shard.ref.key for shard in open_shards(corpus)] == names
    assert [shard.ref.key for shard in open_shards(f"{corpus}/0000[12].tar")] == names[1:3]
    with pytest.raises(TutelageError):
        open_shards(f"{corpus}/none-*.tar")
