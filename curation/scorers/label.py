"""The current label of a sample, as a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.scorers.label_values import votes_of
from curation.scorers.scorer import CaptionNumberScorer
from curation.shards.contents import FIELD

if TYPE_CHECKING:
    import torch

    from curation.scorers.scorer import Batch, Score
    from curation.storage.store import StoreOptions


@dataclass(frozen=True, kw_only=True)
class Label(CaptionNumberScorer):
    """The label of the sample, a word: the field `field` of its json.

    Use it to filter by class (`one_of`, `cluster_balance`), and to show labels in a review queue. Of votes (a mapping
    of classes to numbers) it is the class with most, of equals the first by name. Empty for a sample without a label,
    or with an unusable one.
    Cost: 3 us a sample.
    Example: label: {field: name}
    """

    field: str = "name"

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "label", "code": 1, "field": self.field}

    def imports(self) -> Sequence[str]:
        return ()

    def reads(self) -> Sequence[str]:
        return (FIELD + self.field,)

    def values(self) -> pa.DataType:
        return pa.string()

    def load(self, device: torch.device | None, options: StoreOptions | None = None) -> Score:
        def score(batch: Batch) -> pa.Array:
            return pa.array([word(value) for value in batch.columns[FIELD + self.field]], pa.string())

        return score


def word(value: Any) -> str:
    """Return the label with most votes, of equals the first by name; "" without a usable label."""
    votes = votes_of(value) or {}
    return min(votes, key=lambda name: (-votes[name], name), default="")
