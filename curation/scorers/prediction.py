"""A trained classifier on a sample: its most probable class, and its loss on the sample's label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.core.errors import WeightsError
from curation.models import Weights, preprocess_for
from curation.models.architecture import encoder_imports
from curation.models.identity import encoder_identity
from curation.scorers.label_values import label_distributions
from curation.scorers.scorer import CaptionNumberScorer, PartlyScored
from curation.shards.contents import FIELD

if TYPE_CHECKING:
    import torch

    from curation.scorers.scorer import Batch, Score
    from curation.shards.images import Preprocess
    from curation.storage.store import StoreOptions

_TYPE = pa.struct([("guess", pa.string()), ("loss", pa.float32())])


@dataclass(frozen=True, kw_only=True)
class Prediction(CaptionNumberScorer):
    """The most probable class, `guess`, and the cross-entropy of the sample's label, `loss` in nats.

    When to use: to find what a classifier of `curate learn` gets wrong. Unlike `label_error`, the classifier may have
    been trained on the sample. A sample without a label of the classifier is quarantined: `no_label`, `bad_label`,
    `unknown_class`.
    Cost: one image pass.
    Source: -log softmax(W f(x) + c)_y, as 2312.05328, section 3.
    Example: prediction: {model: proxy-mu, weights: s3://models/learner.safetensors, sha256: 9f2c..., label: name}
    """

    model: str
    weights: str
    sha256: str
    label: str = "name"

    def identity(self) -> Mapping[str, Any]:
        about = {"kind": "prediction", "code": 1, "label": self.label}
        return {**about, **encoder_identity(self.model, self.sha256, "fp32")}

    def views(self) -> Sequence[Preprocess]:
        return (preprocess_for(self.model),)

    def files(self) -> Sequence[Weights]:
        return (Weights(self.weights, self.sha256),)

    def values(self) -> pa.DataType:
        return _TYPE

    def imports(self) -> Sequence[str]:
        return (*encoder_imports(self.model), "curation.models.trained_classifier")

    def reads(self) -> Sequence[str]:
        return (FIELD + self.label,)

    def check(self, options: StoreOptions | None = None) -> None:
        """Raise `WeightsError` for weights that name no classes; only the header is read."""
        from curation.models.weight_shapes import header_of
        from curation.models.weights import classes_of

        file = self.files()[0]
        if len(classes_of(header_of(file, options).metadata, file.url)) < 2:
            raise WeightsError(f"{file.url} names no classes", fix="name a classifier's weights (`curate learn`)")

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        import torch

        from curation.models.dual import MIN_ROWS
        from curation.models.towers import PixelNormaliser, pad_rows
        from curation.models.trained_classifier import load_classifier

        module, classes = load_classifier(self.model, self.files()[0], device, options)
        view, head = preprocess_for(self.model), module.head
        normalise, names = PixelNormaliser(view).to(device), np.array(classes, object)

        def score(batch: Batch) -> PartlyScored:
            labels, unlabelled = label_distributions(batch.columns[FIELD + self.label], classes)
            pixels = batch.tensor(view, device)
            if not len(pixels):
                return PartlyScored(pa.array([], _TYPE), {})
            with torch.inference_mode():
                features = module.visual(normalise(pad_rows(pixels, MIN_ROWS)))[: len(pixels)].double()
                # float32 would round differently in batches of another size
                logits = torch.nn.functional.linear(features, head.weight.double(), head.bias.double())
                logarithms = logits.log_softmax(1).cpu().numpy()
            columns = [
                pa.array(names[logarithms.argmax(1)], pa.string()),
                pa.array((-(labels * logarithms).sum(1)).astype("f4")),
            ]
            return PartlyScored(pa.StructArray.from_arrays(columns, fields=list(_TYPE)), unlabelled)

        return score
