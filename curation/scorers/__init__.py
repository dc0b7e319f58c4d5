"""The room of scorers: each adds one column of numbers, or one embedding, to every sample.

A scorer is a frozen dataclass whose fields are its configuration in the recipe. It knows how to `load` itself once
inside an actor and what decides its values (`identity`, from which the fingerprint is made). Thresholds never live
here: they are filters. To add one: write a file beside these and name it in `SCORERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from curation.scorers.clip_score import ClipScore
from curation.scorers.embedding import Embedding

if TYPE_CHECKING:
    import numpy as np
    import torch

    from curation.images import Preprocess
    from curation.store import StoreOptions

T = TypeVar("T")


@dataclass
class Batch:
    """N samples as a scorer sees them. `pixels(view)` is [N, size, size, 3] uint8; captions are N strings.

    Rows of quarantined samples are present (black, empty caption), so that every batch of a run has the same shape
    and a sample's score doesn't depend on its neighbours.
    """

    captions: Sequence[str]
    views: Mapping[str, np.ndarray[Any, Any]]
    _memo: dict[Hashable, Any] = field(default_factory=dict)

    def pixels(self, view: Preprocess) -> np.ndarray[Any, Any]:
        from curation.units import view_column

        return self.views[view_column(view)]

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Compute something once a batch: scorers that use the same model share its forward pass through this."""
        if key not in self._memo:
            self._memo[key] = compute()
        value: T = self._memo[key]
        return value


#: A loaded scorer: a batch of N samples -> [N] float32, or [N, D] for an embedding.
Score = Callable[[Batch], "torch.Tensor"]


@runtime_checkable
class Scorer(Protocol):
    """What the pipeline needs of a scorer."""

    def identity(self) -> Mapping[str, Any]:
        """Everything that decides the values: weights' sha256, preprocessing, precision, the code's version."""
        ...

    def view(self) -> Preprocess | None:
        """How this scorer wants images prepared, or None when it looks at captions only."""
        ...

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        """Load weights and return the function that scores. Runs once, inside the actor."""
        ...


#: name in the recipe -> dataclass. The recipe's schema, the help and the contract test come from this table.
SCORERS: dict[str, type[Scorer]] = {
    "clip_score": ClipScore,
    "embedding": Embedding,
}


def fingerprint(scorer: Scorer, index_fingerprint: str) -> str:
    """The name of a scorer's values: sha256 of its identity and of how units are read (see `units`)."""
    from curation.ledger import digest

    return digest({"scorer": dict(scorer.identity()), "index": index_fingerprint})
