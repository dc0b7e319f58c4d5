"""The model under diagnosis, and its scores on a dataset: labels, predictions, gradients."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from curation.core.errors import UserError
from curation.core.executor import Executor
from curation.core.types import OTHER, OWN
from curation.curating.scored_units import ScoredUnits, scored_units
from curation.diagnosis.trace import GradientRows
from curation.evaluation.judges import weights_at
from curation.models.architecture import model_config
from curation.models.weights import Weights, classes_of, read_metadata
from curation.storage.store import StoreOptions
from curation.storage.urls import absolute_url

CONTENT = "content_hash"


@dataclass(frozen=True)
class Subject:
    """A trained model, the field of its labels, and the sketch of its gradients.

    A classifier has the classes of its logits. A dual encoder has `against`, a file of fixed pairs (`curate proxy
    vectors`) among which the loss of a pair is taken, and two answers: the pair's `own` caption and picture, or an
    `other` one's.
    """

    model: str
    weights: Weights
    classes: tuple[str, ...]
    label: str
    numbers: int = 100
    seed: int = 0
    against: Weights | None = None

    @property
    def last_layer(self) -> int:
        """The number of a sketch's columns that belong to the head, which come last; 0 for a dual encoder."""
        if self.against is not None:
            return 0
        return min(self.numbers, len(self.classes) * int(model_config(self.model)["embed_dim"]))

    def facts(self) -> dict[str, Any]:
        """Return the facts that a file about this model records."""
        pairs = {} if self.against is None else {"against_sha256": self.against.sha256}
        return {"model": self.model, "sha256": self.weights.sha256, "label": self.label, **pairs}

    def scorers(self, *, gradients: bool, checkpoints: Sequence[Weights] = ()) -> list[dict[str, Any]]:
        """Return the scorers of a recipe. gradients: with those of the weights and of earlier checkpoints."""
        own: dict[str, Any] = {"model": self.model, "label": self.label}
        if self.against is not None:
            own = {"model": self.model, "against": self.against.url, "against_sha256": self.against.sha256}
        found: list[dict[str, Any]] = [
            *([{"label": {"field": self.label}}] if self.against is None else []),
            {"phash": {}},
            {"prediction": {**own, "weights": self.weights.url, "sha256": self.weights.sha256}},
        ]
        for number, file in enumerate((self.weights, *checkpoints) if gradients else ()):
            sketch = {"numbers": self.numbers, "seed": self.seed, "name": column_of(number)}
            found.append({"gradient": {**own, **sketch, "weights": file.url, "sha256": file.sha256}})
        return found


def column_of(number: int) -> str:
    """Return the name of a gradient column: 0 is the model itself, then its checkpoints."""
    return f"gradient_{number}"


def open_subject(url: str, label: str, options: StoreOptions | None = None, *, against: str | None = None) -> Subject:
    """Return the model at a URL: weights, or a folder of `curate learn`. Raises `UserError` for another model.

    against: URL of the fixed pairs of a dual encoder.
    """
    weights = weights_at(url, options)
    metadata = read_metadata(weights.fetch(options), weights.url)
    classes, model = classes_of(metadata, weights.url), metadata.get("model")
    if not model or "folds" in metadata:
        text = f"{weights.url} is no model of `curate learn`"
        raise UserError(text, fix="train one: learner: {classification: {model: proxy-mu, label: name}}")
    if against is not None:
        if classes:
            text = f"{weights.url} is a classifier: its loss needs no other pairs"
            raise UserError(text, fix="leave --against out")
        return Subject(model, weights, (OTHER, OWN), "", against=weights_at(against, options))
    if not classes:
        text = f"{weights.url} is no classifier of `curate learn`"
        fix = (
            "of a dual encoder, `failures` and `trace` take --against PAIRS (curate proxy vectors); train a classifier"
        )
        raise UserError(text, fix=f"{fix} for the rest")
    return Subject(model, weights, tuple(classes), label)


@dataclass(frozen=True)
class SubjectScores:
    """The scores of a subject on the samples of a dataset."""

    units: ScoredUnits
    checkpoints: int
    pairs: bool = False

    @property
    def in_snapshot(self) -> bool:
        """Whether the data is a snapshot: the key of a sample is its uid in the corpus then."""
        return self.units.work.corpus.snapshot is not None

    def tables(self, columns: Sequence[str], more: Sequence[str] = ()) -> Iterator[pa.Table]:
        """Yield the samples of each unit: uid, content_hash, where the sample is, and these scores.

        more: further columns of the index, such as `caption`. The label of a pair is `OWN`.
        """
        index = ("uid", "key", CONTENT, "offset", "length", *more)
        stored = [name for name in columns if not (self.pairs and name == "label")]
        for shard, table in self.units.tables(stored, index):
            if len(stored) < len(columns):
                table = table.append_column("label", pa.array([OWN] * table.num_rows, pa.string()))
            places = [("source_key", shard.key), ("source_etag", shard.etag)]
            for name, value in places:
                table = table.append_column(name, pa.array([value] * table.num_rows, pa.string()))
            table = table.rename_columns({"offset": "source_offset", "length": "source_length"})
            if self.in_snapshot:
                table = table.set_column(0, "uid", table.column("key"))
            yield table.drop_columns(["key"])

    def gradients(self) -> Iterator[GradientRows]:
        """Yield the gradients of the samples, unit by unit."""
        names = [column_of(number) for number in range(1 + self.checkpoints)]
        for table in self.tables(["prediction", *names]):
            known = table
            if table.column(names[0]).null_count:
                known = table.filter(pc.is_valid(table.column(names[0])))
            loss = pc.struct_field(known.column("prediction"), "loss").to_numpy().copy()
            rows = [matrix_of(known.column(name)) for name in names]
            yield GradientRows(known.column("uid").to_pylist(), torch.from_numpy(loss), rows)


def matrix_of(column: pa.ChunkedArray) -> torch.Tensor:
    """Return lists of equal length as a matrix, float32 `[N, D]`, of Arrow's own memory where that is possible."""
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # which would copy a single one
    flat = array.flatten().to_numpy(zero_copy_only=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the memory is read-only, and nothing writes to it
        found = torch.from_numpy(flat.astype(np.float32, copy=False))
    return found.reshape(len(array), -1 if len(array) else 0)


@contextmanager
def subject_scores(
    subject: Subject, data: str, scores: str, *, gradients: bool, checkpoints: Sequence[Weights] = (),
    executor: Executor | None = None, more: Sequence[dict[str, Any]] = (),
) -> Iterator[SubjectScores]:  # fmt: skip
    """Score data with a subject where it is not scored yet, and yield the scores. more: further scorers."""
    scorers = [*subject.scorers(gradients=gradients, checkpoints=checkpoints), *more]
    with scored_units(absolute_url(data), absolute_url(scores), scorers, executor) as units:
        yield SubjectScores(units, len(checkpoints), subject.against is not None)
