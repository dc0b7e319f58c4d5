"""Protocols of a scorer: its input batch, its scoring function, and what it declares about itself."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import torch

    from curation.shards.images import Preprocess
    from curation.storage.pinned_file import PinnedFile
    from curation.storage.store import StoreOptions

T = TypeVar("T")

TORCH = ("torch",)


@dataclass
class Batch:
    """Input of a scorer: N samples, with N captions and, for each view, pixels uint8 [N, size, size, 3].

    `columns`: the columns that scorers declare by `reads`, N values each: of the index, or parsed from the json.
    Quarantined samples have a row too (black, with an empty caption and size 0), so that every batch of a run has the
    same shape and a sample's score does not depend on its neighbours.
    """

    captions: Sequence[str]
    views: Mapping[str, np.ndarray[Any, Any]]
    sizes: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros((0, 2), np.int32))  # [N, 2]: width, height
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    _memo: dict[Hashable, Any] = field(default_factory=dict)

    def pixels(self, view: Preprocess) -> np.ndarray[Any, Any]:
        """Images prepared as `view`, uint8 [N, size, size, 3]."""
        from curation.shards.unit_reader import view_column

        return self.views[view_column(view)]

    def tensor(self, view: Preprocess, device: torch.device) -> torch.Tensor:
        """Images prepared as `view` on `device`, uint8 [N, size, size, 3]: copied there once a batch."""
        import torch

        from curation.models.device_copies import to_device

        pixels = self.pixels(view)
        return self.once((view, device), lambda: to_device(torch.as_tensor(pixels), device))

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the value cached under `key`, computed once a batch: scorers of one model share its passes."""
        if key not in self._memo:
            self._memo[key] = compute()
        value: T = self._memo[key]
        return value


class PartlyScored(NamedTuple):
    """Values of N samples, of which those in `reasons` (row -> reason code) can't be scored.

    Their values become null, and the samples are quarantined with the reason, one of
    `curation.ledger.documents.ledger.UnscoredReason`. It is for what a sample lacks, such as a label; for a sample that
    a scorer can't compute with, raise an error.
    """

    values: torch.Tensor | pa.Array
    reasons: Mapping[int, str]


#: A loaded scorer: a batch of N samples -> [N] float32, or [N, D] for an embedding; or Arrow of N rows.
Score = Callable[[Batch], "torch.Tensor | pa.Array | PartlyScored"]


@runtime_checkable
class Scorer(Protocol):
    """What the pipeline requires of a scorer. `CaptionNumberScorer` has the most frequent answers."""

    def identity(self) -> Mapping[str, Any]:
        """Everything that determines the values, as JSON: weights' sha256, preprocessing, precision, code version."""
        ...

    def views(self) -> Sequence[Preprocess]:
        """Preprocessings of the images that this scorer reads; empty when it reads no pixels."""
        ...

    def files(self) -> Sequence[PinnedFile]:
        """Files that `load` reads. The run checks that they exist before it begins."""
        ...

    def values(self) -> pa.DataType:
        """Arrow type of a sample's value.

        float32 for a number, int64 for a hash, string for a word, a list of float16 for a vector, or a struct of these,
        whose parts become columns `name.part`.
        """
        ...

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        """Load the weights onto `device` and return the scoring function. Called once inside each worker.

        A scorer whose `imports` are empty receives None instead of a device.
        """
        ...


@runtime_checkable
class HeaderCheckingScorer(Protocol):
    """A scorer that detects unsuitable files from their headers."""

    def check(self, options: StoreOptions | None = None) -> None:
        """Raise `WeightsError` for files that `load` would refuse. Called before any sample is scored."""
        ...


@runtime_checkable
class ClassNamingScorer(Protocol):
    """A scorer of class probabilities that knows the names of the classes."""

    def class_names(self, options: StoreOptions | None = None) -> Sequence[str]:
        """Return the names of the classes, in the order of the probabilities; empty where its file names none."""
        ...


@runtime_checkable
class ColumnReadingScorer(Protocol):
    """A scorer that reads columns besides pixels, caption and size."""

    def reads(self) -> Sequence[str]:
        """Columns to pass in `Batch.columns`: `uid`, `key` or `content_hash` of the index, or `json.<field>`.

        The value of a field is that of the sample's json, parsed; None where it is missing. What `reads` returns
        belongs into `identity`.
        """
        ...


#: Columns of the index that scorers can read from `Batch.columns`.
INDEX_COLUMNS = ("uid", "key", "content_hash")


def reads_of(scorer: object) -> Sequence[str]:
    """Columns that a scorer declares; none for a scorer without `reads`."""
    return scorer.reads() if isinstance(scorer, ColumnReadingScorer) else ()


class CaptionNumberScorer:
    """Base of a scorer that gives one number, reads captions alone and loads no file.

    `unit` is the unit of the numbers: `score` (a scale of their own, higher is better), `cosine` (of image and caption)
    or `nats` (a loss, lower is better). `curate learn` subtracts a column only from losses in the same unit.
    """

    unit: ClassVar[str] = "score"

    def views(self) -> Sequence[Preprocess]:
        return ()

    def files(self) -> Sequence[PinnedFile]:
        return ()

    def imports(self) -> Sequence[str]:
        """Modules that `load` needs and that take long to import.

        A local executor imports them once for all workers. A worker whose scorers need none starts without torch (1.5
        CPU seconds) and passes None as their device.
        """
        return TORCH

    def values(self) -> pa.DataType:
        return pa.float32()


def unit_of(scorer: object) -> str:
    """Unit that a scorer or its class declares; `score` where it declares none."""
    return str(getattr(scorer, "unit", CaptionNumberScorer.unit))
