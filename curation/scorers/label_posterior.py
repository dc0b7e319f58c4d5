"""A classifier's distribution over classes, and figures of it that need no label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.core.distributions import entropy, mutual_information
from curation.core.errors import UserError
from curation.scorers.posterior import OpenFolds, Posterior, numbers
from curation.scorers.scorer import PartlyScored

if TYPE_CHECKING:
    import torch

    from curation.scorers.scorer import Batch, Score
    from curation.storage.store import StoreOptions


@dataclass(frozen=True, kw_only=True)
class LabelPosterior(Posterior):
    """The classifier's distribution over classes, a list of K numbers in the order of the classes, float32.

    No classifier judges a picture that it was trained on. Use it to see the most likely classes of a sample; filters
    read `label_error` and `label_ambiguity`, which take 4 bytes a sample instead of 4 K.
    Cost: one image pass for each run of the proxy, shared.
    Example: label_posterior: {model: proxy-ti, weights: s3://models/folds.safetensors, sha256: 9f2c...}
    """

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "label_posterior", "code": 1, **self.source()}

    def values(self) -> pa.DataType:
        return pa.list_(pa.float32())

    def load(self, device: torch.device | None, options: StoreOptions | None = None) -> Score:
        opened = self.open(device, options)

        def score(batch: Batch) -> PartlyScored:
            posterior, without = opened.posterior(batch)
            ends = pa.array(np.arange(len(posterior) + 1) * posterior.shape[1], pa.int32())
            lists = pa.ListArray.from_arrays(ends, pa.array(posterior.astype(np.float32).reshape(-1)))
            return PartlyScored(lists, without)

        return score


@dataclass(frozen=True, kw_only=True)
class LabelAmbiguity(Posterior):
    """Entropy of the classifier's distribution, to base K: from 0, certain, to 1, a uniform guess.

    H(p) = - sum_k p_k log_K p_k. Above 0.30 a picture itself counts as ambiguous: people, too, choose different labels.
    Cost: one image pass for each run of the proxy, shared. Source: Active label cleaning (2109.00574), section 3.
    Example: label_ambiguity: {model: proxy-ti, weights: s3://models/folds.safetensors, sha256: 9f2c...}
    """

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "label_ambiguity", "code": 1, **self.source()}

    def load(self, device: torch.device | None, options: StoreOptions | None = None) -> Score:
        opened = self.open(device, options)

        def score(batch: Batch) -> PartlyScored:
            posterior, without = opened.posterior(batch)
            return PartlyScored(numbers(entropy(posterior)), without)

        return score


@dataclass(frozen=True, kw_only=True)
class LabelDisagreement(Posterior):
    """BALD: how much the runs of a proxy contradict each other, from 0 to 1.

    H(mean_r p_r) - mean_r H(p_r), to base K, over the R runs; p_r comes from the classifiers of run r that were not
    trained on the picture. Train the proxy with `--runs 2` or more.
    Cost: one image pass for each run of the proxy, shared. Source: BALD (1112.5745), equation 2.
    Example: label_disagreement: {model: proxy-ti, weights: s3://models/folds.safetensors, sha256: 9f2c...}
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.probabilities is not None:
            raise ValueError("probabilities have one distribution a sample; give weights of 2 runs or more")

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "label_disagreement", "code": 1, **self.source()}

    def load(self, device: torch.device | None, options: StoreOptions | None = None) -> Score:
        opened = self.open(device, options)
        assert isinstance(opened, OpenFolds)
        if opened.folds.rule.runs < 2:
            fix = "train with: curate proxy train --objective classes --folds 5 --runs 3"
            raise UserError(f"{self.weights} has 1 run, and a disagreement needs at least 2", fix=fix)

        def score(batch: Batch) -> pa.Array:
            return numbers(mutual_information(opened.runs(batch)))

        return score
