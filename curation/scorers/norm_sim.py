"""How near an image is to a set that one wants to be good at."""

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
    """How near the image is to a target set.

    (sum_j |cos(x, z_j)|^p)^(1/p) over the images z_j of a target set; with `p: inf`, the largest |cos(x, z_j)|.

    `target` is a set of vectors as `curate proxy vectors` makes it with the same weights, of the training part of what
    one will be judged on, never of the test. Cost: one image pass, shared, and 2 D^2 FLOPs (p = 2, whatever the set's
    size) or 2 R D (p = inf). Range [0, sqrt(R)] or [0, 1]; higher is nearer.
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
        from curation.models.fits import expect_width

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
