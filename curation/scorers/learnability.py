"""What a reference knows of a sample and another model does not yet: learnability, as a column."""

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
    """What a reference knows of the sample and these weights do not yet.

    l(x | these weights) - l(x | reference), with the pointwise loss l = - z_img . z_txt.
    The online selection of `curate learn`, once, with two models that stand still: a model of today's data and one of
    data worth imitating. Four passes a sample, less those that other scorers share. Range [-2, 2]; the higher, the more
    there is to learn.
    Source: 2312.05328, section 3; CoLoR-Filter (2406.10670) for the fixed pair.
    Cost: those passes.
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
