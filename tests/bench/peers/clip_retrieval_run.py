"""`clip-retrieval inference` on WebDataset input, called as its command line calls it.

    python tests/bench/peers/clip_retrieval_run.py URLS.json MODEL WEIGHTS OUT.npz BATCH WORKERS THREADS

It decodes with PIL and open_clip's transform, and writes the vectors of images and captions; this script takes the
scores from them after the clock. Before, it adds the proxies' configurations to open_clip.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pandas as pd
import torch
from clip_retrieval.clip_inference.main import main as inference
from encoding import CONFIGS, report, save

# by name: the package's attribute `clip_inference` is a function
worker = importlib.import_module("clip_retrieval.clip_inference.worker")
moments: list[float] = []


class MarkedMapper(worker.ClipMapper):  # type: ignore[misc]
    """clip-retrieval's own model stage, which records when a batch reaches it and leaves it."""

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        moments.append(time.time())
        vectors: dict[str, Any] = super().__call__(item)
        moments.append(time.time())
        return vectors


def main(urls: str, model: str, weights: str, out: str, batch: str, workers: str, threads: str) -> None:
    open_clip.add_model_config(CONFIGS)
    torch.set_num_threads(int(threads))
    worker.ClipMapper = MarkedMapper
    shards = json.loads(Path(urls).read_text())
    names = ",".join(Path(shard).name for shard in shards)
    pattern = f"{Path(shards[0]).parent}/{{{names}}}" if len(shards) > 1 else shards[0]
    with tempfile.TemporaryDirectory(dir=Path(out).parent) as folder:
        inference(
            pattern, folder, input_format="webdataset", batch_size=int(batch), num_prepro_workers=int(workers),
            wds_image_key="png" if "icons" in pattern else "jpg", clip_model=f"open_clip:{model}/{weights}",
            output_partition_count=1,
        )  # fmt: skip
        image, text = (np.load(f"{folder}/{kind}_emb/{kind}_emb_0.npy").astype(np.float32) for kind in ("img", "text"))
        keys = pd.read_parquet(f"{folder}/metadata/metadata_0.parquet")["image_path"]
    save(out, keys, [(image * text).sum(-1)], [image])
    report(len(keys), moments[0], moments[-1])  # its loggers take seconds to end: part of the overhead


if __name__ == "__main__":
    main(*sys.argv[1:])
