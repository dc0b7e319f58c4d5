"""Cluster of a sample: the nearest of K centres in a dual encoder's space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from curation.models import Weights
from curation.scorers.encoder import Encoder

if TYPE_CHECKING:
    import torch

    from curation.scorers.scorer import Batch, Score
    from curation.shards.images import Preprocess
    from curation.storage.store import StoreOptions

Of = Literal["image", "text"]


@dataclass(frozen=True, kw_only=True)
class Cluster(Encoder):
    """Index of the nearest of K centres and the cosine to it, for balancing and for the shifts that `what-if` reports.

    argmax_k cos(x, c_k), the lowest index of equals. `curate proxy clusters` creates the file `centres` with the same
    weights, from images or captions as `of` says. `target` is a file of vectors that `curate proxy vectors` creates
    from samples of the target task. With it there is a further column `near_target`: 1 where the sample's cluster is
    the nearest one of at least one target vector, else 0. `threshold: {score: cluster.near_target, min: 1}` then is
    DataComp's image-based filter.

    Columns: `cluster` (int32), `similarity` (float32, [-1, 1]), and with a target `near_target` (int32). Cost: one pass
    of one tower, shared, and 2 K D FLOPs; once an actor, 2 K D FLOPs for each target vector.
    Source: DataComp (2304.14108), section 3.3; spherical k-means as in SemDeDup (2303.09540), section 3.1.
    Example: cluster: {model: proxy-ti, weights: s3://models/ti.safetensors, sha256: 9f2c...,
      centres: s3://models/centres.safetensors, centres_sha256: 9f2c...}
    """

    centres: str
    centres_sha256: str
    of: Of = "image"
    target: str | None = None
    target_sha256: str | None = None

    def __post_init__(self) -> None:
        if (self.target is None) != (self.target_sha256 is None):
            raise ValueError("target and target_sha256 must be given together")

    def identity(self) -> Mapping[str, Any]:
        files = {"centres": self.centres_sha256, "target": self.target_sha256}
        return {"kind": "cluster", "code": 1, "of": self.of, **files, **self.encoder()}

    def views(self) -> Sequence[Preprocess]:
        return super().views() if self.of == "image" else ()

    def files(self) -> Sequence[Weights]:
        target = (Weights(self.target, self.target_sha256 or ""),) if self.target else ()
        return (*super().files(), Weights(self.centres, self.centres_sha256), *target)

    def values(self) -> pa.DataType:
        near = [("near_target", pa.int32())] if self.target else []
        return pa.struct([("cluster", pa.int32()), ("similarity", pa.float32()), *near])

    def check(self, options: StoreOptions | None = None) -> None:
        from curation.models.weight_shapes import expect_width

        _, centres, *target = self.files()
        expect_width(centres, ("centres",), self.width(options), options)
        for file in target:
            expect_width(file, (self.of,), self.width(options), options)

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        from curation.models.vectors import nearest, read_centres

        passes = self.open(device, options)
        centres = read_centres(Weights(self.centres, self.centres_sha256), self.sha256, self.of, device, options)
        vectors = passes.image if self.of == "image" else passes.text
        near = self._near(centres, device, options)

        def score(batch: Batch) -> pa.Array:
            cluster, similarity = (part.cpu().numpy() for part in nearest(vectors(batch), centres))
            columns = [cluster.astype(np.int32), similarity] + ([near[cluster]] if near is not None else [])
            kind = self.values()
            arrays = [pa.array(column, field.type) for column, field in zip(columns, kind, strict=True)]
            return pa.StructArray.from_arrays(arrays, fields=list(kind))

        return score

    def _near(
        self, centres: torch.Tensor, device: torch.device, options: StoreOptions | None
    ) -> np.ndarray[Any, np.dtype[np.int32]] | None:
        """int32 [K]: 1 for each centre that is the nearest one of at least one target vector, else 0."""
        from curation.models.vectors import BATCH, nearest, read_vectors

        if self.target is None:
            return None
        file = Weights(self.target, self.target_sha256 or "")
        target = getattr(read_vectors(file, self.sha256, device, options), self.of)
        near = np.zeros(len(centres), np.int32)
        for part in target.split(BATCH):
            near[nearest(part, centres)[0].cpu().numpy()] = 1
        return near
