"""Samples in memory, and batches from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders import write_shard

from curation.examples import Examples, gather, stream_batches, uniform_batches
from curation.loader import SampleStream, open_shards


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


def test_batches_are_uniform_without_replacement_within_an_epoch() -> None:
    examples = Examples(np.zeros((10, 4, 4, 3), np.uint8), [str(i) for i in range(10)], [""] * 10, [""] * 10)
    examples.pixels[:, 0, 0, 0] = range(10)
    batches = uniform_batches(examples, tokenize, 3, seed=0)
    epochs = [[next(batches) for _ in range(3)] for _ in range(40)]
    seen = torch.zeros(10)
    for epoch in epochs:
        rows = torch.cat([batch.ids[:, 0] for batch in epoch])
        assert len(rows.unique()) == 9
        assert torch.equal(rows, torch.cat([batch.pixels[:, 0, 0, 0] for batch in epoch]).long())
        seen += torch.bincount(rows, minlength=10)
    assert seen.min() > 25
    again = uniform_batches(examples, tokenize, 3, seed=0)
    assert torch.equal(next(again).ids, epochs[0][0].ids)
    assert len(next(uniform_batches(examples, tokenize, 99, seed=0)).ids) == 10


def test_stream_batches_go_on_over_epochs(stream: SampleStream) -> None:
    batches = stream_batches(SampleStream(stream.shards, size=16), tokenize, 8)
    taken = [next(batches) for _ in range(5)]  # two whole batches an epoch
    assert all(len(batch.pixels) == len(batch.ids) == 8 for batch in taken)
    assert list(stream_batches(SampleStream(stream.shards, size=16), tokenize, 21)) == []
