"""What a scorer is: the batch it is given, the function it becomes, and what it has to say of itself."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import torch

    from curation.shards.images import Preprocess
    from curation.storage.pinned_file import PinnedFile
    from curation.storage.store import StoreOptions

T = TypeVar("T")


@dataclass
class Batch:
    """N samples as a scorer sees them. `pixels(view)` is [N, size, size, 3] uint8; captions are N strings.

    Rows of quarantined samples are present (black, empty caption, size 0), so that every batch of a run has the same
    shape and a sample's score doesn't depend on its neighbours.
    """

    captions: Sequence[str]
    views: Mapping[str, np.ndarray[Any, Any]]
    sizes: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros((0, 2), np.int32))  # [N, 2]: width, height
    _memo: dict[Hashable, Any] = field(default_factory=dict)

    def pixels(self, view: Preprocess) -> np.ndarray[Any, Any]:
        from curation.shards.unit_reader import view_column

        return self.views[view_column(view)]

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Compute something once a batch: scorers that use the same model share its forward pass through this."""
        if key not in self._memo:
            self._memo[key] = compute()
        value: T = self._memo[key]
        return value


#: A loaded scorer: a batch of N samples -> [N] float32, or [N, D] for an embedding; or Arrow of N rows.
Score = Callable[[Batch], "torch.Tensor | pa.Array"]


@runtime_checkable
class Scorer(Protocol):
    """What the pipeline needs of a scorer. `CaptionNumberScorer` has the answers that most give."""

    def identity(self) -> Mapping[str, Any]:
        """Everything that decides the values: weights' sha256, preprocessing, precision, the code's version."""
        ...

    def views(self) -> Sequence[Preprocess]:
        """How this scorer wants images prepared; nothing when it doesn't look at pixels."""
        ...

    def files(self) -> Sequence[PinnedFile]:
        """The files it loads. They are looked for before anything runs."""
        ...

    def values(self) -> pa.DataType:
        """What a sample is given: a number (float32), a hash (int64), a word (string), a list of float16 (a vector), or
        a struct of such, whose parts are columns `name.part`."""
        ...

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        """Load weights and return the function that scores. Runs once, inside the actor."""
        ...


@runtime_checkable
class HeaderCheckingScorer(Protocol):
    """A scorer that can tell by the headers of its files that they are of something else."""

    def check(self, options: StoreOptions | None = None) -> None:
        """Raise `WeightsError` for files that `load` would refuse. Called before anything is scored."""
        ...


class CaptionNumberScorer:
    """The answers of a scorer that gives a number, looks at captions alone and loads nothing.

    `unit`, of a scorer's numbers: `score`, on a scale of their own, higher is better; `cosine` of image and caption;
    `nats`, a loss, lower is better. `curate learn` subtracts a column from losses in the same unit alone.
    """

    unit: ClassVar[str] = "score"

    def views(self) -> Sequence[Preprocess]:
        return ()

    def files(self) -> Sequence[PinnedFile]:
        return ()

    def values(self) -> pa.DataType:
        return pa.float32()


def unit_of(scorer: object) -> str:
    """The unit that a scorer, or its class, declares; `score` for one that declares none."""
    return str(getattr(scorer, "unit", CaptionNumberScorer.unit))
