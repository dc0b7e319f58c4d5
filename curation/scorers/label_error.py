"""How much a classifier contradicts a sample's label: cross-entropy and margin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curation.core.distributions import cross_entropy, margin
from curation.scorers.posterior import LabelledPosterior

if TYPE_CHECKING:
    import torch

    from curation.scorers.scorer import Score
    from curation.storage.store import StoreOptions


@dataclass(frozen=True, kw_only=True)
class LabelError(LabelledPosterior):
    """Cross-entropy of the sample's label under the classifier's distribution: high where the label looks wrong.

    CE(q, p) = - sum_k q_k log_K p_k, for K classes: 0 for a label that is certain, 1 at a uniform guess, at most 7 for
    10 classes, because probabilities below 1e-7 count as 1e-7. q is the label, the field `label` of the json: a name,
    or votes as a mapping of classes to numbers. A sample without a label, with bad votes or of an unknown class is
    quarantined: `no_label`, `bad_label`, `unknown_class`; one without probabilities: `no_probabilities`,
    `bad_probabilities`.
    Cost: one image pass for each run of the proxy, shared. Source: Active label cleaning (2109.00574), equation 3.
    Example: label_error: {model: proxy-ti, weights: s3://models/folds.safetensors, sha256: 9f2c..., label: name}
    """

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "label_error", "code": 1, "label": self.label, **self.source()}

    def load(self, device: torch.device | None, options: StoreOptions | None = None) -> Score:
        return self.compare(cross_entropy, self.open(device, options))


@dataclass(frozen=True, kw_only=True)
class LabelMargin(LabelledPosterior):
    """Probability of the best other class minus that of the label, from -1 to 1: high where the label looks wrong.

    max_{k != y} p_k - p_y, where y is the label, of votes the class with most. Samples without a label are quarantined
    as by `label_error`.
    Cost: one image pass for each run of the proxy, shared. Source: Confident Learning (1911.00068), normalized margin
    with the opposite sign.
    Example: label_margin: {probabilities: s3://models/probabilities.parquet, sha256: 9f2c..., classes: [cat, dog]}
    """

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "label_margin", "code": 1, "label": self.label, **self.source()}

    def load(self, device: torch.device | None, options: StoreOptions | None = None) -> Score:
        return self.compare(margin, self.open(device, options))
