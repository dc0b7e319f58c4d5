"""What the peers that we wrote share: decoding, the model as open_clip builds it, and one line of figures.

Runs in each peer's own environment: it imports nothing of Tutelage.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch

CONFIGS = Path(__file__).parents[3] / "curation/models/configs"  # the proxies, in open_clip's format
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
cv2.setNumThreads(0)


def born() -> float:
    """Return when the bench started this process, as `time.time()` counts."""
    return float(os.environ["BENCH_BORN"])


def report(samples: int, first_batch: float, scored: float | None = None) -> None:
    """Print the line that the bench reads: samples, and seconds from the start to the first batch and to the end."""
    at = {"first_batch": first_batch - born(), "scored": (scored or time.time()) - born()}
    print(f"\n{json.dumps({'samples': samples, 'at': at})}")  # a progress bar may have left an open line


def decode(data: bytes, size: int) -> np.ndarray:
    """Decode to RGB, uint8 [size, size, 3]: a JPEG at its smallest sufficient DCT scale, then area averaging."""
    if data[:2] == b"\xff\xd8":
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=size, min_width=size, min_factor=2)
    else:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    height, width = pixels.shape[:2]
    if min(height, width) != size:
        width, height = (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    top, left = round((height - size) / 2), round((width - size) / 2)
    return pixels[top : top + size, left : left + size]


class Encoder:
    """An open_clip model with its weights, as a user loads it. `trim`: drop the columns of padding before the text."""

    def __init__(self, model: str, weights: str, *, trim: bool = False) -> None:
        import open_clip

        open_clip.add_model_config(CONFIGS)
        self.model: Any = open_clip.create_model(model, pretrained=weights).eval()
        self.size = int(np.max(self.model.visual.image_size))
        self.trim = trim
        self.mean, self.std = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in (MEAN, STD))

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor, ids: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return scores, float32 [N], and image vectors, float16 [N, D], of images uint8 [N, S, S, 3] and token ids."""
        pixels = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        image = torch.nn.functional.normalize(self.model.encode_image(pixels), dim=-1)
        text = torch.nn.functional.normalize(self._text(ids), dim=-1)
        return (image * text).sum(-1).numpy(), image.half().numpy()

    def _text(self, ids: torch.Tensor) -> torch.Tensor:
        if not self.trim:
            return self.model.encode_text(ids)
        model, n = self.model, int(ids.argmax(1).max()) + 1  # the tower is causal and reads its end token alone
        hidden = model.token_embedding(ids[:, :n]) + model.positional_embedding[:n]
        hidden = model.ln_final(model.transformer(hidden, attn_mask=model.attn_mask[:n, :n]))
        return hidden[torch.arange(len(ids)), ids.argmax(1)] @ model.text_projection


def save(path: str, keys: Sequence[str], scores: Sequence[np.ndarray], vectors: Sequence[np.ndarray]) -> None:
    """Save the results as .npz: keys, scores [N] and vectors [N, D]."""
    np.savez(path, keys=list(keys), scores=np.concatenate(scores), vectors=np.concatenate(vectors))
