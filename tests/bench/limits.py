"""The limits of any pipeline on this machine: header scan, decoding and forward pass, each alone on all cores.

    python tests/bench/limits.py CORPUS MODEL WEIGHTS SHA256 SHARDS BATCH

Each core has a process with its own share of the shards. They start together, after imports, loading and a first batch.
The forward pass reads pixels and token ids from memory. It is measured as one process per core with one thread each,
and as one process with one thread per core; the better one counts. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

FORWARD_SAMPLES = 2048  # per process: about two seconds of proxy-ti


def main(corpus: str, model: str, weights: str, sha256: str, shards: str, batch: str) -> None:
    cores = len(os.sched_getaffinity(0))
    context = get_context("spawn")
    barrier, results = context.Barrier(cores), context.Queue()
    arguments = (corpus, model, weights, sha256, int(shards), int(batch), cores, barrier, results)
    children = [context.Process(target=_child, args=(index, *arguments)) for index in range(cores)]
    for child in children:
        child.start()
    said = [results.get() for _ in children]
    for child in children:
        child.join()
    rates = {}
    for phase in ("scan", "decode", "processes", "threads"):
        did = [each[phase] for each in said if phase in each]
        rates[phase] = sum(n for n, _, _ in did) / (max(stop for _, _, stop in did) - min(start for _, start, _ in did))
    print(json.dumps({**rates, "forward": max(rates["processes"], rates["threads"])}))


def _child(
    index: int, corpus: str, model: str, weights: str, sha256: str, shards: int, batch: int, cores: int,
    barrier: Any, results: Any,
) -> None:  # fmt: skip
    import torch

    from curation.core.types import ShardRef
    from curation.models import Weights, preprocess_for
    from curation.models.dual import load_dual_encoder
    from curation.shards.tar_samples import read_samples
    from curation.shards.unit_reader import UnitReader, pixels
    from curation.storage.store import open_store

    store, view = open_store(corpus), preprocess_for(model)
    listed = sorted((info for info in store.list() if info.key.endswith(".tar")), key=lambda info: info.key)
    mine = [ShardRef(info.key, info.size, info.etag) for info in listed[:shards][index::cores]]
    encoder = load_dual_encoder(model, Weights(weights, sha256))
    torch.set_num_threads(1)
    tables = list(UnitReader(store, views=[view]).read(mine[0]))

    def forward() -> int:
        for images, captions in batches:
            encoder.image(images)
            encoder.text(captions)
        return sum(len(captions) for _, captions in batches)

    def timed(work: Callable[[], int]) -> tuple[int, float, float]:
        barrier.wait()
        start = time.time()
        return work(), start, time.time()

    did = {
        "scan": timed(lambda: sum(1 for s in mine for _ in read_samples(store.blocks(s.key, s.size, s.etag), s.size))),
        "decode": timed(
            lambda: sum(t.num_rows for s in mine for t in UnitReader(store, views=[view]).read(s)) - len(mine)
        ),
    }
    images = [image for table in tables for image in pixels(table, view)]
    captions = [text or "" for table in tables for text in table.column("caption").to_pylist()]
    at = [[i % len(images) for i in range(n, n + batch)] for n in range(0, FORWARD_SAMPLES, batch)]
    batches = [(torch.stack([torch.tensor(images[i]) for i in rows]), [captions[i] for i in rows]) for rows in at]
    known = {tuple(texts): encoder._tokenize(texts) for _, texts in batches}
    encoder._tokenize = lambda texts: known[tuple(texts)]
    encoder.image(batches[0][0])
    did["processes"] = timed(forward)
    barrier.wait()
    if index == 0:
        torch.set_num_threads(cores)
        start = time.time()
        did["threads"] = (forward(), start, time.time())
    results.put(did)


if __name__ == "__main__":
    main(*sys.argv[1:])
