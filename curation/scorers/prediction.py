"""A trained model on a sample: a classifier's most probable class and its loss, or a dual encoder's on the pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.core.errors import WeightsError
from curation.core.types import OTHER, OWN
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

    When to use: to find what a model of `curate learn` gets wrong. Unlike `label_error`, the classifier may have been
    trained on the sample. A sample without a label of the classifier is quarantined: `no_label`, `bad_label`,
    `unknown_class`. With `against`, the model is a dual encoder, and each pair is compared with the fixed pairs of a
    file of `curate proxy vectors`: the guess is `own` if no other caption is nearer to its picture and no other picture
    to its caption, else `other`; the loss is that of the pair among them.
    Cost: one image pass, and with `against` one text pass.
    Source: -log softmax(W f(x) + c)_y, as 2312.05328, section 3; CLIP's loss (2103.00020, figure 3).
    Example: prediction: {model: proxy-mu, weights: s3://models/learner.safetensors, sha256: 9f2c..., label: name}
    """

    model: str
    weights: str
    sha256: str
    label: str | None = None
    against: str | None = None
    against_sha256: str | None = None

    def __post_init__(self) -> None:
        if self.label is not None and self.against is not None:
            raise ValueError("give either label, for a classifier, or against, for a dual encoder")
        if (self.against is None) != (self.against_sha256 is None):
            raise ValueError("against and against_sha256 must be given together")

    @property
    def label_field(self) -> str:
        """The field of a classifier's labels."""
        return "name" if self.label is None else self.label

    def identity(self) -> Mapping[str, Any]:
        target = {"label": self.label_field} if self.against is None else {"against": self.against_sha256}
        return {"kind": "prediction", "code": 1, **target, **encoder_identity(self.model, self.sha256, "fp32")}

    def views(self) -> Sequence[Preprocess]:
        return (preprocess_for(self.model),)

    def files(self) -> Sequence[Weights]:
        pairs = () if self.against is None else (Weights(self.against, self.against_sha256 or ""),)
        return (Weights(self.weights, self.sha256), *pairs)

    def values(self) -> pa.DataType:
        return _TYPE

    def imports(self) -> Sequence[str]:
        return (*encoder_imports(self.model), "curation.models.trained_classifier")

    def reads(self) -> Sequence[str]:
        return (FIELD + self.label_field,) if self.against is None else ()

    def check(self, options: StoreOptions | None = None) -> None:
        """Raise `WeightsError` for weights of another kind of model; only headers are read."""
        from curation.models.weight_shapes import expect_encoder, expect_width, header_of
        from curation.models.weights import classes_of

        own, *pairs = self.files()
        if pairs:
            expect_width(pairs[0], ("image", "text"), expect_encoder(self.model, own, options), options)
        elif len(classes_of(header_of(own, options).metadata, own.url)) < 2:
            fix = "name a classifier's weights (`curate learn`), or `against` for a dual encoder"
            raise WeightsError(f"{own.url} names no classes", fix=fix)

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        return self._classes(device, options) if self.against is None else self._pairs(device, options)

    def _classes(self, device: torch.device, options: StoreOptions | None) -> Score:
        import torch

        from curation.models.dual import MIN_ROWS
        from curation.models.towers import PixelNormaliser, pad_rows
        from curation.models.trained_classifier import load_classifier

        module, classes = load_classifier(self.model, self.files()[0], device, options)
        view, head = preprocess_for(self.model), module.head
        normalise, names = PixelNormaliser(view).to(device), np.array(classes, object)

        def score(batch: Batch) -> PartlyScored:
            labels, unlabelled = label_distributions(batch.columns[FIELD + self.label_field], classes)
            pixels = batch.tensor(view, device)
            if not len(pixels):
                return PartlyScored(pa.array([], _TYPE), {})
            with torch.inference_mode():
                features = module.visual(normalise(pad_rows(pixels, MIN_ROWS)))[: len(pixels)].double()
                # float32 would round differently in batches of another size
                logits = torch.nn.functional.linear(features, head.weight.double(), head.bias.double())
                logarithms = logits.log_softmax(1).cpu().numpy()
            return PartlyScored(_values(names[logarithms.argmax(1)], -(labels * logarithms).sum(1)), unlabelled)

        return score

    def _pairs(self, device: torch.device, options: StoreOptions | None) -> Score:
        import torch

        from curation.gradients import PairLosses
        from curation.models.dual import load_dual_encoder
        from curation.models.vectors import read_vectors

        own, pairs = self.files()
        others = read_vectors(pairs, self.sha256, device, options)
        encoder, view = load_dual_encoder(self.model, own, device, options=options), preprocess_for(self.model)
        losses = PairLosses.of(encoder.module, others.image.double(), others.text.double())

        def score(batch: Batch) -> pa.Array:
            with torch.inference_mode():
                image = encoder.image(batch.tensor(view, device)).double()
                text = encoder.text(list(batch.captions)).double()
                one, captions, pictures = losses.logits(encoder.module, image, text)
                nearest = torch.cat([captions, pictures], 1).amax(1) <= one[:, 0]
                found = losses.of_logits(one, captions, pictures).cpu().numpy()
            return _values(np.where(nearest.cpu().numpy(), OWN, OTHER), found)

        return score


def _values(guesses: Any, losses: Any) -> pa.Array:
    columns = [pa.array(guesses, pa.string()), pa.array(losses.astype("f4"))]
    return pa.StructArray.from_arrays(columns, fields=list(_TYPE))
