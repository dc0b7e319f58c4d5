"""Similarity of an image to a target set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from curation.models import Weights
from curation.scorers.encoder import Encoder

if TYPE_CHECKING:
    import torch

    from curation.scorers.scorer import Batch, Score
    from curation.storage.store import StoreOptions


@dataclass(frozen=True, kw_only=True)
class NormSim(Encoder):
    """Similarity of the image to the images of a target set.

    (sum_j |cos(x, z_j)|^p)^(1/p) over the R images z_j of the target set; with `p: inf`, the largest |cos(x, z_j)|.
    Range [0, sqrt(R)], or [0, 1] with `p: inf`; a higher value is more similar.

    `curate proxy vectors` creates the file `target` with the same weights. Create it from the training part of the
    target task, never from its test part.
    Cost: one image pass, shared, and 2 D^2 FLOPs (p = 2, whatever the set's size) or 2 R D (p = inf).
    Source: NormSim (2405.19547), section 3.2.
    Example: norm_sim: {model: proxy-ti, weights: s3://models/ti.safetensors, sha256: 9f2c...,
      target: s3://models/target-vectors.safetensors, target_sha256: 9f2c...}
    """

    target: str
    target_sha256: str
    p: Literal[2, "inf"] = 2

    def identity(self) -> Mapping[str, Any]:
        return {
            "kind": "norm_sim",
            "code": 2 if self.p == "inf" else 1,
            "target": self.target_sha256,
            "p": self.p,
            **self.encoder(),
        }

    def files(self) -> Sequence[Weights]:
        return (*super().files(), Weights(self.target, self.target_sha256))

    def check(self, options: StoreOptions | None = None) -> None:
        from curation.models.weight_shapes import expect_width

        expect_width(Weights(self.target, self.target_sha256), ("image",), self.width(options), options)

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        import torch

        from curation.models.vectors import read_vectors, similarities

        passes = self.open(device, options)
        target = read_vectors(Weights(self.target, self.target_sha256), self.sha256, device, options).image
        gram = (target.double().T @ target.double()).float()

        def two(batch: Batch) -> torch.Tensor:
            image = passes.image(batch)
            (projected,) = similarities(image, gram)
            return (projected * image).sum(-1).clamp_min(0).sqrt()

        def nearest(batch: Batch) -> torch.Tensor:
            return torch.stack([part.abs().amax(1) for part in similarities(passes.image(batch), target)]).amax(0)

        return two if self.p == 2 else nearest
