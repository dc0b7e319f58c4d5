"""A type as a query: the direction of its samples in the model's own features.

- `centroid`: the mean of the type's features of unit length, scaled to length 1; the score is the cosine.
- `classifier`: logistic regression of the type against samples that the model is right about, both sides weighted
  equally, with a penalty of `PENALTY` on squared weights; the score is the log-odds.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from curation.diagnosis.pictures import LabelledPictures
from curation.diagnosis.subject import Subject
from curation.diagnosis.tuning import JUDGED, TunedClassifier
from curation.storage.store import StoreOptions

BY = ("centroid", "classifier")
PENALTY = 1e-3
ROUNDS = 200  # of L-BFGS, at most

QUERY_SCHEMA = pa.schema(
    [("type", pa.string()), ("by", pa.string()), ("vector", pa.list_(pa.float64())), ("bias", pa.float64())]
)


@torch.no_grad()
def tower_features(subject: Subject, pictures: LabelledPictures, options: StoreOptions | None = None) -> Tensor:
    """Return the image tower's outputs, of length 1, float32 `[N, D]`: the scorer `features`, without its rounding."""
    classifier = TunedClassifier.of(subject, options=options)
    tower: Any = classifier.module
    parts = [tower.visual(classifier.normalise(some)) for some in torch.split(pictures.pixels, JUDGED) if len(some)]
    return normalize(torch.cat(parts), dim=1) if parts else torch.zeros(0, 1)


def query_rows(name: str, own: Tensor, right: Tensor) -> list[dict[str, Any]]:
    """Return the queries of a type (`QUERY_SCHEMA`) from features of its samples and of right ones, of length 1."""
    centre = normalize(own.double().mean(0), dim=0)
    weights, bias = separate(own, right)
    return [
        {"type": name, "by": "centroid", "vector": centre.tolist(), "bias": 0.0},
        {"type": name, "by": "classifier", "vector": weights.tolist(), "bias": bias},
    ]


def separate(ours: Tensor, others: Tensor) -> tuple[Tensor, float]:
    """Return weights, float64 `[D]`, and bias of a logistic regression that tells rows of `ours` from others."""
    rows = torch.cat([ours, others]).double()
    middle = rows.mean(0)
    targets = torch.cat([torch.ones(len(ours)), torch.zeros(len(others))]).double()
    counts = torch.where(targets > 0, 0.5 / max(1, len(ours)), 0.5 / max(1, len(others)))
    weights = torch.zeros(rows.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=ROUNDS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = (rows - middle) @ weights[:-1] + weights[-1]
        found = binary_cross_entropy_with_logits(logits, targets, weight=counts, reduction="sum")
        found = found + PENALTY * weights[:-1].square().sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    found = weights.detach()
    return found[:-1], float(found[-1] - middle @ found[:-1])
