"""Daft: `read_webdataset`, a class UDF that decodes and runs the model, `write_parquet`, on its native runner.

    python tests/bench/peers/daft_run.py URLS.json MODEL WEIGHTS OUT.npz BATCH INSTANCES THREADS

Decoding is the tuned loop's. Daft hands members out as references into the tar, which the UDF reads one by one. The UDF
runs in Daft's process: with `use_process=True`, release 0.7.26 waits for ever on these references.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import daft
import numpy as np
import open_clip
import pyarrow.parquet as pq
import torch
from encoding import Encoder, decode, report, save

RESULT = daft.DataType.struct({"score": daft.DataType.float32(), "vector": daft.DataType.list(daft.DataType.float32())})


def main(urls: str, model: str, weights: str, out: str, batch: str, instances: str, threads: str) -> None:
    with tempfile.TemporaryDirectory(dir=Path(out).parent) as folder:
        marks = Path(folder) / "marks"
        marks.mkdir()

        @daft.udf(return_dtype=RESULT, concurrency=int(instances), batch_size=int(batch), use_process=False)
        class Score:
            def __init__(self) -> None:
                torch.set_num_threads(int(threads))
                self.encoder, self.tokenizer = Encoder(model, weights), open_clip.get_tokenizer(model)
                self.marked = False

            def __call__(self, images: daft.Series, texts: daft.Series) -> list[dict]:
                if not self.marked:
                    (marks / str(os.getpid())).write_text(str(time.time()))
                    self.marked = True
                pixels = []
                for image in images.to_pylist():
                    with image.open() as file:
                        pixels.append(decode(file.read(), self.encoder.size))
                scores, vectors = self.encoder(torch.from_numpy(np.stack(pixels)), self.tokenizer(texts.to_pylist()))
                return [{"score": float(s), "vector": v.tolist()} for s, v in zip(scores, vectors, strict=True)]

        data = daft.read_webdataset(json.loads(Path(urls).read_text()))
        image = "png" if "png" in data.column_names else "jpg"
        data = data.select("__key__", Score(data[image], data["txt"]).alias("result"))
        data.write_parquet(f"{folder}/scores")
        done = time.time()
        table = pq.read_table(f"{folder}/scores").flatten()
        first = min(float(mark.read_text()) for mark in marks.iterdir())
    vectors = np.stack(table.column("result.vector").to_numpy())
    save(out, table.column("__key__").to_pylist(), [table.column("result.score").to_numpy()], [vectors])
    report(table.num_rows, first, done)


if __name__ == "__main__":
    main(*sys.argv[1:])
