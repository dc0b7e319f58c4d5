"""Samples in memory, and batches from them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from threading import Event

import pytest
import torch
from builders import picture, write_shard

from curation.core.origins import ORIGINS
from curation.dataset import examples
from curation.dataset.examples import StoppedError, gather, gather_some, mixed, stream_batches
from curation.dataset.loader import SampleStream
from curation.dataset.open_shards import open_shards
from curation.shards.tar_writer import TarWriter


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> SampleStream:
    root = tmp_path_factory.mktemp("examples")
    for shard in range(2):
        write_shard(root / f"{shard}.tar", shard, 10, flaws=False)
    return SampleStream(open_shards(str(root)), size=16, shuffle=0)


def tokenize(captions: list[str]) -> torch.Tensor:
    return torch.tensor([[int(word) for word in (c + " 0").split() if word.isdigit()][:1] for c in captions])


def test_gather(stream: SampleStream) -> None:
    told: list[int] = []
    everything = gather(stream, advance=told.append)
    assert everything is not None and len(everything) == sum(told) == 20
    assert everything.pixels.shape == (20, 16, 16, 3)
    assert [e.uid for e in stream] == everything.uids
    few = gather(stream, limit=3)
    assert few is not None and few.uids == everything.uids[:3]
    assert everything.take([4, 1]).uids == [everything.uids[4], everything.uids[1]]
    assert gather(stream, budget=19 * 16 * 16 * 3) is None
    assert gather(stream, budget=20 * 16 * 16 * 3) is not None


def test_gather_ends_once_another_thread_needs_no_more(stream: SampleStream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "GROWTH", 4)
    told, stop = list[int](), Event()

    def advance(samples: int) -> None:
        told.append(samples)
        stop.set()

    with pytest.raises(StoppedError):
        gather(stream, advance=advance, stop=stop)
    assert told == [4]
    assert gather(stream, stop=Event()) is not None


def test_of_many_shards_some_of_each(stream: SampleStream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, skipped = gather_some(stream, 6)
    assert len(found) == 6 and not skipped
    everything = [example.uid for example in stream]
    assert sum(uid in everything[:10] for uid in found.uids) == 3, "as many of either shard, whatever their order"
    assert gather_some(stream.over(stream.shards[::-1]), 6)[0].uids == found.uids
    assert [shard.ref.key for shard in mixed(stream.shards)] == [shard.ref.key for shard in mixed(stream.shards[::-1])]
    assert len(gather_some(stream, 1000)[0]) == 20
    assert len(gather_some(stream.over([]), 6)[0]) == 0
    monkeypatch.setattr(examples, "BUDGET", 4 * 16 * 16 * 3)
    assert len(gather_some(stream, 1000)[0]) == 4


@pytest.mark.slow
def test_of_uneven_shards_those_that_have_more_give_more_alike(tmp_path: Path) -> None:
    for name, samples in (("few", 2), ("many", 40), ("more", 60)):
        write_shard(tmp_path / f"{name}.tar", samples, samples)
    shards = open_shards(str(tmp_path))
    streams = [SampleStream([shard], size=16, shuffle=0) for shard in shards]
    few, many, more = ({example.uid for example in stream} for stream in streams)
    for some in (shards, shards[::-1]):
        told: list[int] = []
        found, _ = gather_some(SampleStream(some, size=16, shuffle=0), 30, told.append)
        assert len(found) == len(set(found.uids)) == sum(told) == 30
        assert set(found.uids) > few and abs(len(many & set(found.uids)) - len(more & set(found.uids))) <= 1
    found, skipped = gather_some(SampleStream(shards, size=16, shuffle=0), 1000)
    assert set(found.uids) == few | many | more
    assert skipped == sum((stream.skipped for stream in streams), Counter()), "once, however often it was read"


@pytest.mark.parametrize("workers", [0, pytest.param(4, marks=pytest.mark.slow)])
def test_stream_batches_go_on_over_epochs(stream: SampleStream, workers: int) -> None:
    everything = gather(stream)
    assert everything is not None
    batches = stream_batches(SampleStream(stream.shards, size=16), tokenize, 8, workers)
    taken = [next(batches) for _ in range(5)]  # two epochs of 20: what the first leaves over is in the third batch
    assert all(len(batch.pixels) == len(batch.targets) == 8 for batch in taken)
    seen = torch.cat([batch.pixels for batch in taken]).flatten(1).numpy()
    found = sorted(map(bytes, seen))
    assert found == sorted([bytes(row) for row in everything.pixels.reshape(20, -1)] * 2), "each once an epoch"


@pytest.mark.slow
def test_a_batch_may_be_larger_than_a_worker_s_share_and_not_than_the_data(stream: SampleStream) -> None:
    assert len(next(stream_batches(SampleStream(stream.shards, size=16), tokenize, 19, 4)).pixels) == 19
    assert list(stream_batches(SampleStream(stream.shards, size=16), tokenize, 21)) == []


def test_an_evaluation_reads_real_and_relabelled_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    origins = [None, "real", "relabelled", "captioned", "synthetic", "dreamt"]
    with (tmp_path / "0.tar").open("wb") as file:
        writer = TarWriter(file)
        for place, origin in enumerate(origins):
            writer.add(f"{place}.json", json.dumps({"tutelage": {"origin": origin}} if origin else {}).encode())
            writer.add(f"{place}.png", picture(place, "png"))
            writer.add(f"{place}.txt", str(place).encode())
        writer.close()
    stream = SampleStream(open_shards(str(tmp_path)), size=16, shuffle=0)
    found, skipped = gather_some(stream, 100)
    assert found.captions == ["0", "1", "2"]
    assert skipped == {"origin_captioned": 1, "origin_synthetic": 2}
    assert "left out of the samples to evaluate on, by origin: captioned 1, synthetic 2" in capsys.readouterr().err
    found, skipped = gather_some(stream, 100, origins=ORIGINS)
    assert len(found) == 6 and not skipped and capsys.readouterr().err == ""
    assert len(gather(stream) or ()) == 6, "a training reads all"
