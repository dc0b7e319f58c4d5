"""Learnability as a column: the loss of one model on a sample minus the loss of a reference model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curation.scorers.encoder import Encoder

if TYPE_CHECKING:
    import torch

    from curation.models import Weights
    from curation.scorers.scorer import Batch, Score
    from curation.shards.images import Preprocess
    from curation.storage.store import StoreOptions


@dataclass(frozen=True, kw_only=True)
class Learnability(Encoder):
    """Loss under these weights minus loss under a reference: high where the reference fits the sample better.

    l(x | weights) - l(x | reference), with the pointwise loss l = - z_img . z_txt. It is the criterion of `curate
    learn` computed once with two fixed models: one trained on the present data, and one on data worth imitating. Range
    [-2, 2]; a higher value means more to learn.
    Cost: four passes a sample, less those that other scorers share.
    Source: 2312.05328, section 3; CoLoR-Filter (2406.10670) for the fixed pair.
    Example: learnability: {model: proxy-ti, weights: s3://models/ti.safetensors, sha256: 9f2c...,
      reference: {model: proxy-ti, weights: s3://models/clean.safetensors, sha256: 9f2c...}}
    """

    reference: Encoder

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "learnability", "code": 1, **self.encoder(), "reference": dict(self.reference.encoder())}

    def views(self) -> Sequence[Preprocess]:
        return (*super().views(), *self.reference.views())

    def files(self) -> Sequence[Weights]:
        return (*super().files(), *self.reference.files())

    def check(self, options: StoreOptions | None = None) -> None:
        super().check(options)
        self.reference.check(options)

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        online, reference = self.open(device, options), self.reference.open(device, options)

        def score(batch: Batch) -> torch.Tensor:
            return reference.similarity(batch) - online.similarity(batch)

        return score
