"""The loop that a good engineer writes in an afternoon: webdataset, DataLoader and open_clip, without their slow parts.

    python tests/bench/peers/tuned_loop.py URLS.json MODEL WEIGHTS OUT.npz BATCH WORKERS THREADS TRIM

Workers decode JPEGs at DCT scale with simplejpeg and PNGs with OpenCV, send whole batches as bytes, and tokenise a
batch's captions at once. BATCH, WORKERS and THREADS are tuned by the bench; TRIM (0 or 1) cuts captions to the longest
of the batch, which takes open_clip's text tower apart.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import torch
import webdataset as wds
from encoding import Encoder, decode, report, save


def collate(samples: list[tuple[str, bytes, bytes]], size: int, tokenizer: open_clip.SimpleTokenizer) -> tuple:
    """Decode and tokenise one batch, in a worker: keys, uint8 [N, S, S, 3], ids [N, L]."""
    keys, images, texts = zip(*samples, strict=True)
    pixels = np.stack([decode(image, size) for image in images])
    return keys, torch.from_numpy(pixels), tokenizer([text.decode() for text in texts])


def main(urls: str, model: str, weights: str, out: str, batch: str, workers: str, threads: str, trim: str) -> None:
    torch.set_num_threads(int(threads))
    encoder = Encoder(model, weights, trim=trim == "1")
    work = partial(collate, size=encoder.size, tokenizer=open_clip.get_tokenizer(model))
    dataset = (
        wds.WebDataset(json.loads(Path(urls).read_text()), shardshuffle=False, handler=wds.warn_and_continue)
        .to_tuple("__key__", "jpg;png;jpeg;webp", "txt", handler=wds.warn_and_continue)
        .batched(int(batch), collation_fn=work)
    )
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=int(workers))
    keys: list[str] = []
    scores, vectors = [], []
    first = None
    for names, images, ids in loader:
        first = first or time.time()
        keys += names
        score, vector = encoder(images, ids)
        scores.append(score)
        vectors.append(vector)
    save(out, keys, scores, vectors)
    assert first is not None
    report(len(keys), first)


if __name__ == "__main__":
    main(*sys.argv[1:])
