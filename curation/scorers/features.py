"""Features of an image under a trained classifier: the space in which its head draws the line between classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.core.errors import WeightsError
from curation.models import Weights, preprocess_for
from curation.models.architecture import encoder_imports
from curation.models.identity import encoder_identity
from curation.scorers.scorer import CaptionNumberScorer

if TYPE_CHECKING:
    import torch

    from curation.scorers.scorer import Batch, Score
    from curation.shards.images import Preprocess
    from curation.storage.store import StoreOptions


@dataclass(frozen=True, kw_only=True)
class Features(CaptionNumberScorer):
    """Unit-length output of the image tower of a trained classifier, in half precision (2 bytes a dimension).

    When to use: before `curate diagnose collect`, which looks for samples like a type of failure. `embedding` is the
    same for a dual encoder. A sample needs no label.
    Cost: one image pass.
    Example: features: {model: proxy-mu, weights: s3://models/learner.safetensors, sha256: 9f2c...}
    """

    model: str
    weights: str
    sha256: str

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "features", "code": 1, **encoder_identity(self.model, self.sha256, "fp32")}

    def views(self) -> Sequence[Preprocess]:
        return (preprocess_for(self.model),)

    def files(self) -> Sequence[Weights]:
        return (Weights(self.weights, self.sha256),)

    def values(self) -> pa.DataType:
        return pa.list_(pa.float16())

    def imports(self) -> Sequence[str]:
        return (*encoder_imports(self.model), "curation.models.trained_classifier")

    def check(self, options: StoreOptions | None = None) -> None:
        """Raise `WeightsError` for weights that name no classes; only the header is read."""
        from curation.models.weight_shapes import header_of
        from curation.models.weights import classes_of

        file = self.files()[0]
        if len(classes_of(header_of(file, options).metadata, file.url)) < 2:
            raise WeightsError(f"{file.url} names no classes", fix="name a classifier's weights (`curate learn`)")

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        import torch
        from torch.nn.functional import normalize

        from curation.models.dual import MIN_ROWS
        from curation.models.towers import PixelNormaliser, pad_rows
        from curation.models.trained_classifier import load_classifier

        module, _ = load_classifier(self.model, self.files()[0], device, options)
        view = preprocess_for(self.model)
        normaliser = PixelNormaliser(view).to(device)

        def score(batch: Batch) -> torch.Tensor:
            pixels = batch.tensor(view, device)
            if not len(pixels):
                return torch.zeros(0, module.head.in_features)
            with torch.inference_mode():
                found = module.visual(normaliser(pad_rows(pixels, MIN_ROWS)))[: len(pixels)]
                return normalize(found.float(), dim=-1)

        return score
