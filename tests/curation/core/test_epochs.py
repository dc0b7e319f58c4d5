"""Epochs that workers follow: what a DataLoader reads with persistent workers is what it reads without."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
from builders import write_shard
from torch.utils.data import DataLoader

from curation.dataset.loader import SampleStream
from curation.dataset.open_shards import open_shards
from curation.dataset.sample_weights import SampleWeights
from curation.shards.webdataset_io import SnapshotDataset
from curation.storage.store import open_store

SIZES = (7, 1, 12, 5, 9)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    for shard, n in enumerate(SIZES):
        write_shard(root / f"{shard:05d}.tar", shard, n, flaws=False)
    return root


def face(name: str, corpus: Path) -> Any:
    """One of our datasets: `stream`, `weighted` or `webdataset`."""
    if name == "webdataset":
        keys = [shard.ref.key for shard in open_shards(str(corpus))]
        return SnapshotDataset(open_store(str(corpus)), keys, shuffle=True).to_tuple("__key__")
    shards = [shard._replace(samples=n) for shard, n in zip(open_shards(str(corpus)), SIZES, strict=True)]
    uids = [example.uid for example in SampleStream(shards, size=8, shuffle=0)]
    light = SampleWeights(dict.fromkeys(uids[::2], 0.3), len(uids))
    return SampleStream(shards, size=8, shuffle=6, **({"weights": light} if name == "weighted" else {}))


def read(loader: DataLoader[Any]) -> list[str]:
    return [item[0] if len(item) == 1 else item.uid for item in loader]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.soak)])
def test_persistent_workers_follow_the_epoch(corpus: Path, method: str) -> None:
    for name in ("stream", "weighted", "webdataset") if method == "fork" else ("weighted", "webdataset"):
        alone, kept = face(name, corpus), face(name, corpus)
        loader = DataLoader(
            kept, batch_size=None, num_workers=2, persistent_workers=True, multiprocessing_context=method
        )
        epochs: list[list[str]] = []
        for epoch in (3, 4, 3):
            alone.set_epoch(epoch)
            kept.set_epoch(epoch)
            epochs.append(read(loader))
            assert epochs[-1] == read(DataLoader(alone, batch_size=None, num_workers=2)), (name, epoch)
        assert epochs[0] != epochs[1] and epochs[0] == epochs[2], name
        if name != "weighted":
            assert sorted(epochs[0]) == sorted(epochs[1]) and len(set(epochs[0])) == sum(SIZES)


def test_an_epoch_that_is_set_meanwhile_is_the_next_ones(corpus: Path) -> None:
    stream, other = face("weighted", corpus), face("weighted", corpus)
    reading = iter(stream)
    found = [next(reading).uid]
    stream.set_epoch(9)
    assert found + [example.uid for example in reading] == [example.uid for example in other]


def test_webdataset_counts_iterations_from_the_epoch_that_was_set(corpus: Path) -> None:
    dataset, again = face("webdataset", corpus), face("webdataset", corpus)
    first, second, third = (read(dataset) for _ in range(3))
    assert len({tuple(first), tuple(second), tuple(third)}) == 3 and sorted(first) == sorted(third)
    again.set_epoch(1)
    assert [read(again), read(again)] == [second, third]
    again.set_epoch(1)
    assert read(again) == second
    kept = DataLoader(face("webdataset", corpus), batch_size=None, num_workers=2, persistent_workers=True)
    assert read(kept) != read(kept)


@pytest.mark.slow
def test_workers_that_begin_anew_warn_where_nobody_sets_the_epoch(
    corpus: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "showwarning", lambda text, *place: os.write(2, f"{text}\n".encode()))
    dataset = face("webdataset", corpus)
    loader = DataLoader(dataset, batch_size=None, num_workers=2)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        first = read(loader)
        dataset.set_epoch(1)
        assert read(loader) != first
        assert "set_epoch" not in capfd.readouterr().err
        read(loader)
    assert capfd.readouterr().err.count("call set_epoch(n) before each epoch") == 1
