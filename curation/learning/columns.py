"""A column of scores as a reference: which scorer made it, in which unit it is, and what loss it stands for.

A selector that looks at the reference alone (easy-reference) ranks candidates by the column, whatever its unit: the
gain scales it. One that subtracts the reference's loss from the online model's (learnability, a blend) needs both in
one unit. Scorers declare theirs (`curation.scorers.scorer.Plain.unit`):

- `cosine` of image and caption: minus the loss of a contrastive model, which for scoring is -z_img . z_txt (2312.05328,
  section 3). It is no other loss: not the contrastive one among all candidates, which a column can't have, and not a
  cross-entropy.
- `nats`: a loss, as a classifier's cross-entropy. Lower is better, so its sign stays.
- `score`: anything else, on a scale of its own. Higher is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from curation.core.errors import UserError
from curation.dataset.snapshot import Snapshot
from curation.learning.sources import snapshot_of
from curation.ledger.manifest_schema import BASE_FIELDS
from curation.recipes.learning_recipe import LearnRecipe
from curation.scorers import SCORERS
from curation.scorers.scorer import unit_of
from curation.storage.store import StoreOptions

_IN_WORDS = {"cosine": "a cosine", "nats": "in nats", "score": "a score on a scale of its own"}


def check_column(recipe: LearnRecipe, column: str, urls: Sequence[str]) -> str:
    """The fingerprint of a score that the manifests of all snapshots have, as a number.

    Raises `UserError` where it is none, and where the selector subtracts it from losses in another unit.
    """
    fingerprints: set[str] = set()
    for url in urls:
        snapshot = snapshot_of(url, recipe.options)
        if snapshot is None:
            text = f"{url} is no snapshot, so it has no score {column}"
            raise UserError(text, fix="curate it first, or give the reference as `weights:`")
        _check_type(snapshot, column, url)
        _check_unit(recipe, snapshot, column, url)
        fingerprints.add(str(snapshot.document["fingerprints"].get(column, column)))
    if len(fingerprints) > 1:
        raise UserError(f"{column} is another score in each of {', '.join(urls)}", fix="score them with one model")
    return fingerprints.pop()


def sign_of(recipe: LearnRecipe, column: str, url: str) -> int:
    """By what a column is multiplied to be a loss: 1 for one that is a loss, -1 for one of which more is better."""
    snapshot = snapshot_of(url, recipe.options)
    return 1 if snapshot is not None and unit_in(snapshot, column) == "nats" else -1


def unit_in(snapshot: Snapshot, column: str) -> str:
    """The unit of a column of a snapshot's manifest: its scorer's, or `score` where that isn't installed here."""
    found = scorer_in(snapshot, column)
    return "score" if found is None or found[0] not in SCORERS else unit_of(SCORERS[found[0]])


def scorer_in(snapshot: Snapshot, column: str) -> tuple[str, dict[str, Any]] | None:
    """Kind and fields of the scorer of a snapshot's recipe that made a column (or, as `name.part`, a part of it)."""
    for entry in snapshot.document["recipe"].get("scorers") or ():
        ((kind, said),) = entry.items()
        fields: dict[str, Any] = said or {}
        if column.partition(".")[0] == fields.get("name", kind):
            return kind, fields
    return None


def scorer_of(column: str, urls: Sequence[str], options: StoreOptions) -> dict[str, Any] | None:
    """The fields of the scorer that made a column, in the first snapshot that says so; None where it is none of one
    model."""
    for url in urls:
        snapshot = snapshot_of(url, options)
        found = None if snapshot is None else scorer_in(snapshot, column)
        if found is not None and "model" in found[1] and "reference" not in found[1]:
            return found[1]
    return None


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
    fix = "a reference with `weights:` or `train:`, or `selector: easy_reference`, which looks at the column alone"
    raise UserError(f"{text}: their difference means nothing", fix=fix)
