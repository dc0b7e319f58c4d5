"""Gradient of a model's loss on a sample: what training on the sample would do to the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.core.errors import WeightsError
from curation.core.ranges import check_count, check_seed
from curation.models import Weights, preprocess_for
from curation.models.architecture import encoder_imports
from curation.models.identity import encoder_identity
from curation.scorers.label_values import label_distributions
from curation.scorers.scorer import Batch, CaptionNumberScorer, PartlyScored
from curation.shards.contents import FIELD

if TYPE_CHECKING:
    import torch

    from curation.gradients import GradientSketch
    from curation.scorers.scorer import Score
    from curation.shards.images import Preprocess
    from curation.storage.store import StoreOptions

CODE = 1  # version of the sketch


@dataclass(frozen=True, kw_only=True)
class Gradient(CaptionNumberScorer):
    """Sketch of the gradient of a model's loss on the sample, a list of at most `numbers` for each layer, float32.

    When to use: before `curate diagnose trace`, which asks how samples pulled a model. `weights` are those of a trained
    classifier, whose loss is the cross-entropy of the label (the field `label` of the json), or with `against` those of
    a dual encoder, whose loss is CLIP's, of the pair among the fixed pairs of the file `against` (`curate proxy
    vectors`). Each layer's weights are projected to `numbers` by a count sketch with `seed`; biases and a vocabulary's
    embedding are left out. A sample without a label of the classifier is quarantined: `no_label`, `bad_label`,
    `unknown_class`.
    Cost: four training steps on the sample; 4 bytes for each number and layer.
    Source: 2109.12347, section 4.1; torch.func per-sample gradients.
    Example: gradient: {model: proxy-mu, weights: s3://models/learner.safetensors, sha256: 9f2c..., label: name}
    """

    model: str
    weights: str
    sha256: str
    label: str | None = None
    against: str | None = None
    against_sha256: str | None = None
    numbers: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.label is None) == (self.against is None):
            raise ValueError("give either label, for a classifier, or against, for a dual encoder")
        if (self.against is None) != (self.against_sha256 is None):
            raise ValueError("against and against_sha256 must be given together")
        check_count("numbers", self.numbers, "it is the number of values for each layer", least=1)
        check_seed(self.seed)

    def identity(self) -> Mapping[str, Any]:
        target = {"label": self.label} if self.label is not None else {"against": self.against_sha256}
        about = {"kind": "gradient", "code": CODE, "numbers": self.numbers, "seed": self.seed, **target}
        return {**about, **encoder_identity(self.model, self.sha256, "fp32")}

    def views(self) -> Sequence[Preprocess]:
        return (preprocess_for(self.model),)

    def files(self) -> Sequence[Weights]:
        pairs = () if self.against is None else (Weights(self.against, self.against_sha256 or ""),)
        return (Weights(self.weights, self.sha256), *pairs)

    def values(self) -> pa.DataType:
        return pa.list_(pa.float32())

    def imports(self) -> Sequence[str]:
        return (*encoder_imports(self.model), "curation.gradients")

    def reads(self) -> Sequence[str]:
        return () if self.label is None else (FIELD + self.label,)

    def check(self, options: StoreOptions | None = None) -> None:
        """Raise `WeightsError` for weights of another kind of model; only headers are read."""
        from curation.models.weight_shapes import expect_encoder, expect_width, header_of
        from curation.models.weights import classes_of

        own, *pairs = self.files()
        if pairs:
            expect_width(pairs[0], ("image", "text"), expect_encoder(self.model, own, options), options)
        elif len(classes_of(header_of(own, options).metadata, own.url)) < 2:
            fix = "name the weights of a classifier (`curate learn`), or `against` for a dual encoder"
            raise WeightsError(f"{own.url} names no classes", fix=fix)

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        return self._pair_gradients(device, options) if self.label is None else self._label_gradients(device, options)

    def _label_gradients(self, device: torch.device, options: StoreOptions | None) -> Score:
        import torch

        from curation.gradients import GradientSketch, class_losses
        from curation.models.towers import PixelNormaliser
        from curation.models.trained_classifier import load_classifier

        view, column = preprocess_for(self.model), FIELD + (self.label or "")
        module, classes = load_classifier(self.model, Weights(self.weights, self.sha256), device, options)
        sketch = GradientSketch(module, class_losses, numbers=self.numbers, seed=self.seed)
        normalise = PixelNormaliser(view).to(device)

        def score(batch: Batch) -> PartlyScored:
            labels, unlabelled = label_distributions(batch.columns[column], classes)
            targets = torch.from_numpy(labels.astype(np.float32)).to(device)
            return PartlyScored(_lists(sketch, normalise(batch.tensor(view, device)), targets), unlabelled)

        return score

    def _pair_gradients(self, device: torch.device, options: StoreOptions | None) -> Score:
        from curation.gradients import GradientSketch, PairLosses
        from curation.models.dual import load_dual_encoder
        from curation.models.tokenizer import tokenizer_for
        from curation.models.towers import PixelNormaliser
        from curation.models.vectors import read_vectors

        view, tokenize, (own, pairs) = preprocess_for(self.model), tokenizer_for(self.model), self.files()
        others = read_vectors(pairs, self.sha256, device, options)
        module = load_dual_encoder(self.model, own, device, options=options).module
        sketch = GradientSketch(module, PairLosses.of(module, *others), numbers=self.numbers, seed=self.seed)
        normalise = PixelNormaliser(view).to(device)

        def score(batch: Batch) -> pa.Array:
            return _lists(sketch, normalise(batch.tensor(view, device)), tokenize(list(batch.captions)).to(device))

        return score


def _lists(sketch: GradientSketch, inputs: torch.Tensor, targets: torch.Tensor) -> pa.Array:
    rows = sketch(inputs, targets).cpu().numpy()
    ends = pa.array(np.arange(len(rows) + 1) * sketch.width, pa.int32())
    return pa.ListArray.from_arrays(ends, pa.array(rows.reshape(-1)))
