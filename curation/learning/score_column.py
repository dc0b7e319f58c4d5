"""A column of scores as a reference: its scorer, its unit, and the loss that it stands for.

A selector that reads the reference alone (easy-reference) ranks candidates by the column in any unit: the gain scales
it. A selector that subtracts the reference's loss from the online model's (learnability, a blend) needs both in one
unit. Scorers declare theirs (`unit` of a scorer's class, `curation.scorers.scorer`):

- `cosine` of image and caption: minus the scoring loss of a contrastive model, -z_img . z_txt (2312.05328, section 3).
  It stands for no other loss: neither for the contrastive one among all candidates, which a column can't hold, nor for
  a cross-entropy.
- `nats`: a loss, such as a classifier's cross-entropy. Lower is better, so its sign stays.
- `score`: any other scale. Higher is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curation.core.errors import UserError
from curation.dataset.snapshot import Snapshot
from curation.learning.sources import RunData
from curation.ledger.manifest_schema import BASE_FIELDS
from curation.recipes.learning_recipe import LearnRecipe
from curation.scorers import SCORERS
from curation.scorers.scorer import unit_of

_IN_WORDS = {"cosine": "a cosine", "nats": "in nats", "score": "a score on a scale of its own"}


@dataclass(frozen=True)
class ScoreColumn:
    """A column of the manifests of all data, as a reference.

    fingerprint: of the scores. signs: for each source, the factor from score to loss: 1 for a loss, -1 for a score.
    scorer: the fields of the recipe's scorer that made it, if that is a scorer of one model, else None.
    scored: the samples that it was computed for, of all sources.
    """

    name: str
    fingerprint: str
    signs: tuple[int, ...]
    scorer: Mapping[str, Any] | None
    scored: int


def resolve_column(recipe: LearnRecipe, name: str, data: Sequence[RunData]) -> ScoreColumn:
    """Return the column `name` of all data as a reference.

    Raises `UserError` where a source has no such column of numbers, where its sources hold different scores, and where
    the selector subtracts it from losses in another unit.
    """
    fingerprints: set[str] = set()
    snapshots: list[Snapshot] = []
    for source in data:
        if source.snapshot is None:
            text = f"{source.url} is no snapshot, so it has no score {name}"
            raise UserError(text, fix="curate it first, or give the reference as `weights:`")
        _check_type(source.snapshot, name, source.url)
        _check_unit(recipe, source.snapshot, name, source.url)
        fingerprints.add(str(source.snapshot.document["fingerprints"].get(name, name)))
        snapshots.append(source.snapshot)
    if len(fingerprints) > 1:
        urls = ", ".join(source.url for source in data)
        raise UserError(f"{name} is another score in each of {urls}", fix="score them with one model")
    return ScoreColumn(
        name, fingerprints.pop(),
        tuple(1 if unit_in(snapshot, name) == "nats" else -1 for snapshot in snapshots),
        next(filter(None, (_scorer_of_one_model(snapshot, name) for snapshot in snapshots)), None),
        sum(int(snapshot.document["samples"]["seen"]) for snapshot in snapshots),
    )  # fmt: skip


def unit_in(snapshot: Snapshot, column: str) -> str:
    """Return the unit of a manifest's column: its scorer's, or `score` if that scorer is not installed here."""
    found = scorer_in(snapshot, column)
    return "score" if found is None or found[0] not in SCORERS else unit_of(SCORERS[found[0]])


def scorer_in(snapshot: Snapshot, column: str) -> tuple[str, dict[str, Any]] | None:
    """Return kind and fields of the scorer in a snapshot's recipe that made a column, or a part of it, `name.part`."""
    for entry in snapshot.document["recipe"].get("scorers") or ():
        ((kind, values),) = entry.items()
        fields: dict[str, Any] = values or {}
        if column.partition(".")[0] == fields.get("name", kind):
            return kind, fields
    return None


def _scorer_of_one_model(snapshot: Snapshot, column: str) -> dict[str, Any] | None:
    found = scorer_in(snapshot, column)
    return found[1] if found is not None and "model" in found[1] and "reference" not in found[1] else None


def _check_type(snapshot: Snapshot, column: str, url: str) -> None:
    schema = snapshot.reader().schema
    if column in dict(BASE_FIELDS):
        text = f"the column {column} of {url} is no score"
        fix = f"name the column of a scorer; it has: {', '.join(snapshot.document['score_types']) or 'none'}"
        raise UserError(text, fix=fix)
    if column not in schema.names:
        text = f"the manifest of {url} has no column {column}"
        raise UserError(text, fix=f"it has: {', '.join(schema.names)}")
    kind = schema.field(column).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        text = f"the column {column} of {url} is {kind}, no number that could stand for a loss"
        raise UserError(text, fix="name the column of a scorer, such as clip_score")


def _check_unit(recipe: LearnRecipe, snapshot: Snapshot, column: str, url: str) -> None:
    wanted, unit = recipe.learner.loss_unit, unit_in(snapshot, column)
    if "online" not in recipe.selection.selector.roles() or unit == wanted:
        return
    losses = "minus a cosine" if wanted == "cosine" else _IN_WORDS[wanted]
    text = f"the column {column} of {url} is {_IN_WORDS.get(unit, unit)}, and the online model's losses are {losses}"
    fix = "a reference with `weights:` or `train:`, or `selector: easy_reference`, which reads the column alone"
    raise UserError(f"{text}: their difference means nothing", fix=fix)
