"""The loop that a good user writes today: webdataset, DataLoader workers, open_clip's model, transform and tokenizer.

    python tests/bench/webdataset_loop.py URLS.json MODEL WEIGHTS BATCH WORKERS THREADS OUT.npz

Computes scores and image embeddings of all samples in float32 and saves them at the end. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
import webdataset as wds


def main(urls: str, model_name: str, weights: str, batch: str, workers: str, threads: str, out: str) -> None:
    born = float(os.environ["BENCH_BORN"])
    import curation.models  # only for the folder of its configurations, which open_clip reads itself

    open_clip.add_model_config(Path(curation.models.__file__).parent / "configs")
    model, _, preprocess = open_clip.create_model_and_transforms(model_name, pretrained=weights)
    model.eval()
    tokenizer = open_clip.get_tokenizer(model_name)
    torch.set_num_threads(int(threads))
    dataset = (
        wds.WebDataset(json.loads(Path(urls).read_text()), shardshuffle=False, handler=wds.warn_and_continue)
        .decode("pilrgb", handler=wds.warn_and_continue)
        .to_tuple("__key__", "jpg;png;jpeg;webp", "txt", handler=wds.warn_and_continue)
        .map_tuple(lambda key: key, preprocess, lambda text: tokenizer(text)[0])
        .batched(int(batch))
    )
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=int(workers))
    keys: list[str] = []
    scores, vectors = [], []
    first = None
    with torch.inference_mode():
        for names, images, texts in loader:
            first = first or time.time()
            image = model.encode_image(images, normalize=True)
            text = model.encode_text(texts, normalize=True)
            keys += names
            scores.append((image * text).sum(-1).numpy())
            vectors.append(image.half().numpy())
    np.savez(out, keys=keys, scores=np.concatenate(scores), vectors=np.concatenate(vectors))
    assert first is not None
    print(json.dumps({"samples": len(keys), "at": {"first_batch": first - born, "scored": time.time() - born}}))


if __name__ == "__main__":
    main(*sys.argv[1:])
