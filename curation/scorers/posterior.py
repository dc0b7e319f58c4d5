"""Base of the scorers of label cleaning: where the distribution over classes comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.core.errors import UserError
from curation.models.identity import classifier_identity
from curation.models.patch_config import classifier_preprocess
from curation.models.probability_table import ProbabilityFile
from curation.models.weights import Weights
from curation.scorers.label_values import label_distributions
from curation.scorers.scorer import Batch, CaptionNumberScorer, PartlyScored
from curation.shards.contents import FIELD

if TYPE_CHECKING:
    import torch

    from curation.models.fold_classifiers import FoldClassifiers
    from curation.models.probability_table import ProbabilityTable
    from curation.scorers.scorer import Score
    from curation.shards.images import Preprocess
    from curation.storage.pinned_file import PinnedFile
    from curation.storage.store import StoreOptions

Array = np.ndarray[Any, Any]
Reasons = Mapping[int, str]


@dataclass(frozen=True, kw_only=True)
class Posterior(CaptionNumberScorer):
    """A distribution over classes for each sample, from classifiers of ours (`weights`) or a table of another model's.

    `weights` is the file of `curate proxy train --objective classes --folds 5`, of the architecture `model`. No
    classifier judges a picture that it was trained on, or a copy of it; a picture that none was trained on gets the
    mean of all. `probabilities` is a Parquet file with `uid` and `probabilities` (a list, in the order of the classes).
    Scorers that name the same file share its passes.
    """

    sha256: str
    model: str | None = None
    weights: str | None = None
    probabilities: str | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.weights is None) == (self.probabilities is None):
            raise ValueError("give either weights, with model, or probabilities")
        if (self.weights is None) != (self.model is None):
            raise ValueError("model and weights must be given together")

    def source(self) -> dict[str, Any]:
        """Everything that determines the distributions, for `identity`."""
        named = {"classes": list(self.classes)} if self.classes else {}
        if self.model is not None:
            return {"source": "folds", **classifier_identity(self.model, self.sha256), **named}
        return {"source": "table", "probabilities": self.sha256, **named}

    def views(self) -> Sequence[Preprocess]:
        return (classifier_preprocess(self.model),) if self.model is not None else ()

    def files(self) -> Sequence[PinnedFile]:
        return (self._file,)

    @property
    def _file(self) -> Weights | ProbabilityFile:
        if self.weights is not None:
            return Weights(self.weights, self.sha256)
        return ProbabilityFile(self.probabilities or "", self.sha256)

    def imports(self) -> Sequence[str]:
        return ("curation.models.fold_classifiers",) if self.model is not None else ()

    def reads(self) -> Sequence[str]:
        return ("content_hash",) if self.model is not None else ("uid",)

    def class_names(self, options: StoreOptions | None = None) -> Sequence[str]:
        """Return the names of the classes, in the order of the distributions; empty where a table names none.

        Reads the header of a file of weights.
        """
        file = self._file
        if self.classes or not isinstance(file, Weights):
            return self.classes
        from curation.models.weight_shapes import header_of
        from curation.models.weights import classes_of

        return classes_of(header_of(file, options).metadata, file.url)

    def check(self, options: StoreOptions | None = None) -> None:
        """Raise `PinnedFileError` for a file of another kind, or with other classes than the recipe names."""
        file = self._file
        if isinstance(file, Weights):
            from curation.models.fold_classifiers import read_fold_rule
            from curation.models.weight_shapes import header_of
            from curation.models.weights import classes_of

            metadata = header_of(file, options).metadata
            read_fold_rule(metadata, self.model or "", file.url)
            self._expect_classes(classes_of(metadata, file.url))
        else:
            from curation.models.probability_table import check_table

            check_table(file, self.classes, options)

    def open(self, device: torch.device | None, options: StoreOptions | None = None) -> OpenPosterior:
        """Load the classifiers onto `device`, or the table, once a process."""
        file = self._file
        if isinstance(file, Weights):
            from curation.models.fold_classifiers import shared_fold_classifiers

            assert device is not None and self.model is not None
            folds = shared_fold_classifiers(self.model, file, device, options)
            self._expect_classes(folds.classes)
            return OpenFolds(folds)
        from curation.models.probability_table import shared_table

        return OpenTable(shared_table(file, self.classes, options))

    def _expect_classes(self, found: Sequence[str]) -> None:
        if self.classes and list(self.classes) != list(found):
            text = f"{self._file.url} has the classes {', '.join(found)[:200]}, and the recipe names others"
            raise self._file.error(text, fix="leave `classes` out, or name them in this order")


class OpenPosterior:
    """A loaded source of distributions. `classes` is empty where a table does not name them."""

    classes: Sequence[str]

    def posterior(self, batch: Batch) -> tuple[Array, Reasons]:
        """Return the distributions of a batch, float64 [N, K], and row -> reason for samples without one."""
        raise NotImplementedError


@dataclass(frozen=True)
class OpenFolds(OpenPosterior):
    """The classifiers of folds."""

    folds: FoldClassifiers

    @property
    def classes(self) -> Sequence[str]:  # type: ignore[override]
        return self.folds.classes

    def runs(self, batch: Batch) -> Array:
        """Return the distributions of every run, float64 [R, N, K], computed once a batch."""
        pixels = batch.tensor(self.folds.preprocess, self.folds.device)
        contents = batch.columns["content_hash"]
        return batch.once((self.folds, "runs"), lambda: self.folds.runs(pixels, contents))

    def posterior(self, batch: Batch) -> tuple[Array, Reasons]:
        return self.runs(batch).mean(axis=0), {}


@dataclass(frozen=True)
class OpenTable(OpenPosterior):
    """A table of probabilities."""

    table: ProbabilityTable

    @property
    def classes(self) -> Sequence[str]:  # type: ignore[override]
        return self.table.classes

    def posterior(self, batch: Batch) -> tuple[Array, Reasons]:
        return batch.once((self.table, "rows"), lambda: self.table.posterior(batch.columns["uid"]))


@dataclass(frozen=True, kw_only=True)
class LabelledPosterior(Posterior):
    """A distribution for each sample, and the sample's label: the field `label` of its json."""

    label: str = "name"

    def reads(self) -> Sequence[str]:
        return (*super().reads(), FIELD + self.label)

    def compare(self, figure: Callable[[Array, Array], Array], opened: OpenPosterior) -> Score:
        """Return the scoring function of a figure of label distributions and posteriors ([N, K] each).

        Raises `UserError` for a table whose classes have no names.
        """
        if not opened.classes:
            text = f"{self.probabilities} does not name its classes"
            raise UserError(text, fix="set `classes: [...]` in the order of the probabilities")

        def score(batch: Batch) -> PartlyScored:
            posterior, without = opened.posterior(batch)
            labels, unlabelled = label_distributions(batch.columns[FIELD + self.label], opened.classes)
            return PartlyScored(numbers(figure(labels, posterior)), {**without, **unlabelled})

        return score


def numbers(values: Array) -> pa.Array:
    """Return float64 [N] as Arrow float32."""
    return pa.array(values.astype(np.float32))
