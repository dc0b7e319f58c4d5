"""The limits of any pipeline on this machine: each stage alone, on all cores.

    python tests/bench/throughput/stages.py CORPUS SHARDS.json MODEL WEIGHTS SHA256 BATCH SAMPLES

- get: the bytes of the shards, from the store or the page cache;
- scan: get, and find the samples by their tar headers;
- decode: scan, and decode and resize every image with our own decoder;
- forward: both towers over batches of bytes and token ids in memory, of SAMPLES samples a core.

Each core has a process with its share of the shards; they start a stage together, after imports and loading. The
forward pass runs as one process a core with one thread, and as one process with a thread a core; the better counts.
Prints one line of JSON: samples a second, and CPU milliseconds a sample of decode and forward.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple


class Done(NamedTuple):
    """One stage in one process: samples, begin, end (`time.time()`), CPU seconds."""

    samples: int
    begin: float
    end: float
    cpu: float


def main(corpus: str, shards: str, model: str, weights: str, sha256: str, batch: str, samples: str) -> None:
    cores = len(os.sched_getaffinity(0))
    context = get_context("spawn")
    barrier, results = context.Barrier(cores), context.Queue()
    arguments = (corpus, json.loads(Path(shards).read_text()), model, weights, sha256, int(batch), int(samples))
    if len(arguments[1]) < cores:
        sys.exit(f"{len(arguments[1])} shards for {cores} cores; give the workload more samples with --samples")
    children = [
        context.Process(target=guarded, args=(barrier, core, cores, results, *arguments)) for core in range(cores)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    if any(child.exitcode for child in children):
        sys.exit("a process of the limits failed")
    print(json.dumps(summary([results.get() for _ in children])))


def guarded(barrier: Any, *arguments: Any) -> None:
    """Run the stages; where one fails, the other processes don't wait for it."""
    try:
        stages(barrier, *arguments)
    except BaseException:
        barrier.abort()
        raise


def summary(said: list[dict[str, Done]]) -> dict[str, float]:
    """Return rates of all stages, of all processes together, and CPU milliseconds a sample of decode and forward."""
    rates, cpu = {}, {}
    for stage in ("get", "scan", "decode", "processes", "threads"):
        did = [each[stage] for each in said if stage in each]
        count = sum(item.samples for item in did)
        rates[stage] = count / (max(item.end for item in did) - min(item.begin for item in did))
        cpu[stage] = sum(item.cpu for item in did) / count * 1e3
    best = max(("processes", "threads"), key=lambda mode: rates[mode])
    return {**rates, "cores": len(said), "forward": rates[best], "cpu decode": cpu["decode"], "cpu forward": cpu[best]}


def stages(
    barrier: Any, core: int, cores: int, results: Any, corpus: str, keys: list[str], model: str, weights: str,
    sha256: str, batch: int, samples: int,
) -> None:  # fmt: skip
    """Run all stages in one process, and put what it did into `results`."""
    import torch

    from curation.core.types import ShardRef
    from curation.models import Weights
    from curation.models.dual import load_dual_encoder
    from curation.shards.images import DecodeLimits, decode
    from curation.shards.tar_samples import read_samples
    from curation.storage.store import open_store

    store, encoder = open_store(corpus), load_dual_encoder(model, Weights(weights, sha256))
    infos = {info.key: info for info in store.list()}
    mine = [ShardRef(info.key, info.size, info.etag) for info in (infos[key] for key in keys[core::cores])]
    view, limits = encoder.preprocess, DecodeLimits()
    torch.set_num_threads(1)

    def blocks(shard: ShardRef) -> Any:
        return store.blocks(shard.key, shard.size, shard.etag)

    def images(shard: ShardRef) -> Any:
        for sample in read_samples(blocks(shard), shard.size):
            members = {part.extension: part.data for part in sample.parts}
            yield next(data for name, data in members.items() if name != "txt"), members["txt"]

    def get() -> int:
        for shard in mine:
            sum(map(len, blocks(shard)))
        return count

    def pixels() -> int:
        return sum(
            1 for shard in mine for image, _ in images(shard) if len(decode(image, limits, view.size, view.mode))
        )

    def forward() -> int:
        for batch_images, captions in batches:
            encoder.image(batch_images)
            encoder.text(captions)
        return sum(len(captions) for _, captions in batches)

    def timed(work: Callable[[], int]) -> Done:
        barrier.wait()
        begin, cpu = time.time(), time.process_time()
        return Done(work(), begin, time.time(), time.process_time() - cpu)

    resident = [
        (torch.tensor(decode(image, limits, view.size, view.mode)), text.decode())
        for image, text in (pair for pair, _ in zip(images(mine[0]), range(batch), strict=False))
    ]
    count = sum(1 for shard in mine for _ in images(shard))
    did = {"get": timed(get), "scan": timed(lambda: sum(1 for shard in mine for _ in images(shard)))}
    did["decode"] = timed(pixels)
    batches = [(torch.stack([image for image, _ in resident]), [text for _, text in resident])]
    batches *= -(-samples // len(resident))
    ids = encoder._tokenize(batches[0][1])
    encoder._tokenize = lambda texts: ids
    encoder.image(batches[0][0])
    did["processes"] = timed(forward)
    barrier.wait()
    if core == 0:
        torch.set_num_threads(cores)
        begin, cpu = time.time(), time.process_time()
        did["threads"] = Done(forward(), begin, time.time(), time.process_time() - cpu)
    results.put(did)


if __name__ == "__main__":
    main(*sys.argv[1:])
