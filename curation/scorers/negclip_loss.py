"""CLIP score minus a normalisation that penalises captions that fit any image, and images that fit any caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curation.models import Weights
from curation.scorers.encoder import Encoder

if TYPE_CHECKING:
    import torch

    from curation.scorers.scorer import Batch, Score
    from curation.storage.store import StoreOptions


@dataclass(frozen=True, kw_only=True)
class NegClipLoss(Encoder):
    """CLIP score minus the similarity that image and caption have with the pairs of a fixed set.

    cos(x, y) - t/2 (log sum_j exp(cos(x, y_j)/t) + log sum_j exp(cos(x_j, y)/t)), where t is the model's temperature.

    The published score draws x_j and y_j from random batches of the pool. Here they are the pair itself and the fixed
    vectors of the file `against`, so that a value does not depend on the order of work. `curate proxy vectors` creates
    the file with the same weights; a few thousand pairs of the pool suffice. A pair that is in the file counts twice,
    which lowers its value by at most t log 2 (0.007 at CLIP's t). Unlike the CLIP score, the value has no fixed range.
    Cost: one pass of each tower, shared, and 4 R D FLOPs for R vectors of width D.
    Source: negCLIPLoss (2405.19547), section 3.1.
    Example: negclip_loss: {model: proxy-ti, weights: s3://models/ti.safetensors, sha256: 9f2c...,
      against: s3://models/pool-vectors.safetensors, against_sha256: 9f2c...}
    """

    against: str
    against_sha256: str

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "negclip_loss", "code": 1, "against": self.against_sha256, **self.encoder()}

    def files(self) -> Sequence[Weights]:
        return (*super().files(), Weights(self.against, self.against_sha256))

    def check(self, options: StoreOptions | None = None) -> None:
        from curation.models.weight_shapes import expect_width

        file = Weights(self.against, self.against_sha256)
        expect_width(file, ("image", "text"), self.width(options), options)

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        import torch

        from curation.models.vectors import read_vectors, similarities

        passes = self.open(device, options)
        scale = float(passes.encoder.module.logit_scale.exp())  # type: ignore[operator]
        file = Weights(self.against, self.against_sha256)
        vectors = read_vectors(file, self.sha256, device, options)

        def score(batch: Batch) -> torch.Tensor:
            image, text, own = passes.image(batch), passes.text(batch), passes.similarity(batch)
            total = torch.zeros_like(own)
            for one, other in ((image, vectors.text), (text, vectors.image)):
                logits = (scale * part for part in similarities(one, other))
                total += _log_sum_exp(scale * own, logits)
            return own - total / (2 * scale)

        return score


def _log_sum_exp(first: torch.Tensor, parts: Any) -> torch.Tensor:
    """log(exp(first) + sum of exp over all columns of `parts`), float32 [N]; `first` is [N], each part [N, columns]."""
    for part in parts:
        first = first.logaddexp(part.logsumexp(1))
    return first
