"""Ray Data: `read_webdataset`, `map_batches` on actors that decode and run the model, `write_parquet`.

    python tests/bench/peers/ray_data.py URLS.json MODEL WEIGHTS OUT.npz BATCH ACTORS THREADS

Decoding is the tuned loop's. It runs inside the actors: as a stage of its own it costs a copy of every picture.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from encoding import Encoder, decode, report, save


class Score:
    """An actor: decodes, tokenises and scores one batch of members as they are in the tar."""

    def __init__(self, model: str, weights: str, threads: int, marks: str) -> None:
        torch.set_num_threads(threads)
        self.encoder, self.tokenizer = Encoder(model, weights), open_clip.get_tokenizer(model)
        self.mark: Path | None = Path(marks) / str(os.getpid())

    def __call__(self, batch: pa.Table) -> dict[str, Any]:
        if self.mark:
            self.mark.write_text(str(time.time()))
            self.mark = None
        images = batch.column("png" if "png" in batch.column_names else "jpg").to_pylist()
        pixels = np.stack([decode(image, self.encoder.size) for image in images])
        ids = self.tokenizer([text.decode() for text in batch.column("txt").to_pylist()])
        scores, vectors = self.encoder(torch.from_numpy(pixels), ids)
        return {"key": np.array(batch.column("__key__").to_pylist()), "score": scores, "vector": vectors}


def main(urls: str, model: str, weights: str, out: str, batch: str, actors: str, threads: str) -> None:
    cores = len(os.sched_getaffinity(0))
    # a core for the reader beside the actors: with as many CPUs as cores, Ray runs either readers or actors
    ray.init(num_cpus=cores + 1, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    with tempfile.TemporaryDirectory(dir=Path(out).parent) as folder:
        marks = Path(folder) / "marks"
        marks.mkdir()
        data = ray.data.read_webdataset(json.loads(Path(urls).read_text()), decoder=None)
        settings = (model, weights, int(threads), str(marks))
        scored = data.map_batches(
            Score, batch_size=int(batch), batch_format="pyarrow", concurrency=int(actors), num_cpus=1,
            fn_constructor_args=settings,
        )  # fmt: skip
        scored.write_parquet(f"{folder}/scores")
        done = time.time()
        table = pq.read_table(f"{folder}/scores")
        first = min(float(mark.read_text()) for mark in marks.iterdir())
    vectors = np.stack(table.column("vector").to_numpy())
    save(out, table.column("key").to_pylist(), [table.column("score").to_numpy()], [vectors])
    report(table.num_rows, first, done)


if __name__ == "__main__":
    main(*sys.argv[1:])
