"""A perceptual hash: near-equal for one picture re-encoded, resized or slightly changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.core.hashes import BLANK
from curation.scorers.scorer import CaptionNumberScorer
from curation.shards.images import Preprocess

if TYPE_CHECKING:
    import torch

    from curation.scorers.scorer import Score
    from curation.storage.store import StoreOptions

SIDE, KEPT = 32, 8  # pixels a side, and the lowest frequencies of them each way
CONTRAST = 4  # levels of brightness: below, what a hash finds is the noise of JPEG and of rounding
_MEAN_ALONE = -(1 << 63)
VIEW = Preprocess(size=SIDE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), mode="squash")


@dataclass(frozen=True, kw_only=True)
class PHash(CaptionNumberScorer):
    """64 bits: which of the 8 x 8 lowest frequencies of the picture's brightness lie above their median.

    Re-encoding and resizing change a few bits, other pictures about 32. A blank picture has the hash 0, which filters
    take for no likeness: one whose brightness varies by less than 4 of 256 levels at 32 x 32 pixels, or that has no
    frequency above the median but its mean (some plain gradients). Every other hash is negative, since the mean of a
    picture that is not black is its largest frequency. The low 63 bits and the sign are one int64, computed in whole
    numbers: the same in every batch.
    Cost: 0.01 ms a sample in batches of 256, and decoding; the package `imagehash` takes 0.04 ms of pictures of that
    size. Its definition is this one, but it makes pictures small in another way, which turns some bits: its hashes are
    not to be compared with these.
    Source: Zauner, "Implementation and benchmarking of perceptual image hash functions" (2010), section 3.2.1.
    Example: phash: {}
    """

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "phash", "code": 3, "preprocess": asdict(VIEW)}

    def views(self) -> Sequence[Preprocess]:
        return (VIEW,)

    def values(self) -> pa.DataType:
        return pa.int64()

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        return lambda batch: pa.array(phash(batch.pixels(VIEW)))


def phash(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """int64 [N] of uint8 [N, 32, 32, 3]; the first bit, of the mean, is the sign. `BLANK` without features."""
    red, green, blue = np.moveaxis(pixels.astype(np.int32), 3, 0)
    grey = (299 * red + 587 * green + 114 * blue + 500) // 1000
    low = (_COSINES @ grey @ _COSINES.T).reshape(-1, KEPT * KEPT)
    middle = np.sort(low, axis=1)[:, _HALF - 1 : _HALF + 1]
    bits = 2 * low > middle.sum(axis=1, keepdims=True)
    hashes = np.packbits(bits, axis=1).view(">i8").astype(np.int64).reshape(-1)
    flat = grey.reshape(-1, SIDE * SIDE)
    contrast = flat.max(axis=1, initial=0) - flat.min(axis=1, initial=255)
    return np.where((contrast < CONTRAST) | (hashes == _MEAN_ALONE), BLANK, hashes)


_HALF = KEPT * KEPT // 2
_ANGLES = np.pi * np.arange(KEPT)[:, None] * (2 * np.arange(SIDE) + 1) / (2 * SIDE)  # DCT-II
# Whole, in 2^-20: frequencies that a flat or mirrored picture lacks are then 0 and no rounding noise, which would
# decide bits by the batch and by the machine. Sums stay below 2^59.
_COSINES = np.rint(2**20 * np.cos(_ANGLES)).astype(np.int64)
