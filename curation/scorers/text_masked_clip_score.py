"""CLIP score of an image whose text is painted over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np

from curation.scorers.encoder import Encoder

if TYPE_CHECKING:
    import torch

    from curation.models.packaged import Floats
    from curation.scorers.scorer import Batch, Score
    from curation.shards.images import Pixels, Preprocess
    from curation.storage.store import StoreOptions


@dataclass(frozen=True, kw_only=True)
class TextMaskedClipScore(Encoder):
    """CLIP score of the image with its text painted over: it rates what the image shows, not what it spells.

    CLIP reads text: an image of its caption's words scores high and teaches little else. Each region of text is filled
    with the mean of the adjacent pixels before the cosine with the caption is computed; the paper keeps the upper half
    of the samples. The value of an image without text is its CLIP score, bit for bit. Range [-1, 1].

    Text is detected in a view of `size` pixels with the encoder's crop, and painted over in the encoder's own view. At
    224 pixels, letters of 7 pixels (1/32 of the image) are found; twice the size finds letters half as high and costs
    four times as much. The published code detects regions with FAST at 512 pixels; here they must also be readable.
    Needs the extra `ocr`: pip install 'tutelage[ocr]' (on GPUs, onnxruntime-gpu instead of onnxruntime). The package
    rapidocr (Apache-2.0) contains the networks (PP-OCRv6 small, Apache-2.0, Baidu), pinned by sha256.
    Cost: 15 ms an image on one CPU core and, where there is text, about 15 ms a line and a further image pass; the
    other passes are shared. Source: T-MARS (2307.03132), section 4.
    Example: text_masked_clip_score: {model: proxy-ti, weights: s3://models/ti.safetensors, sha256: 9f2c...}
    """

    unit: ClassVar[str] = "cosine"

    size: int = 224

    def __post_init__(self) -> None:
        from curation.models.text_regions import STRIDE

        if self.size % STRIDE or not STRIDE <= self.size <= 1024:
            raise ValueError(f"size is {self.size} pixels; it must be a multiple of {STRIDE} up to 1024")

    @property
    def _view(self) -> Preprocess:
        """View in which text is detected: the encoder's crop at `size` pixels."""
        (seen,) = super().views()
        return replace(seen, size=self.size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def identity(self) -> Mapping[str, Any]:
        from curation.models.text_regions import DETECTOR, READER

        text = {"weights": [DETECTOR.sha256, READER.sha256], "preprocess": asdict(self._view)}
        return {"kind": "text_masked_clip_score", "code": 1, "text": text, **self.encoder()}

    def views(self) -> Sequence[Preprocess]:
        return (*super().views(), self._view)

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        from curation.models.text_regions import open_finder

        passes, find = self.open(device, options), open_finder(device)
        seen = passes.encoder.preprocess

        def score(batch: Batch) -> torch.Tensor:
            import torch

            image, pixels = passes.image(batch), batch.pixels(seen)
            found = batch.once(("text", self._view), lambda: list(find(batch.pixels(self._view))))
            scale = seen.size / self.size
            masked = {row: mask(pixels[row], boxes * scale) for row, boxes in enumerate(found) if len(boxes)}
            if masked:
                again = passes.encoder.image(np.stack(list(masked.values())))
                image = image.index_copy(0, torch.tensor(list(masked), device=image.device), again)
            cosine: torch.Tensor = (image * passes.text(batch)).sum(-1)
            return cosine

        return score


def mask(pixels: Pixels, boxes: Floats) -> Pixels:
    """Copy an image, uint8 [S, S, 3], and paint over the regions in `boxes`, float32 [K, 4, 2] in pixels.

    A region gets the mean of its adjacent pixels, or its own mean when it fills the image. Touching boxes are one
    region.
    """
    text = cv2.fillPoly(np.zeros(pixels.shape[:2], np.uint8), list(boxes.round().astype(np.int32)), (1,))
    count, regions = cv2.connectedComponents(text)
    found = pixels.copy()
    for region in range(1, count):
        inside = regions == region
        around = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > text
        found[inside] = pixels[around if around.any() else inside].mean(0).round()
    return found
