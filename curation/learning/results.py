"""What comes of runs: figures of a learner, summaries and curves of finished runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from curation.core.digest import digest
from curation.core.errors import LedgerError, NotFoundError, UserError
from curation.learning.data import Data, PinnedInput
from curation.ledger.documents import read_json
from curation.ledger.documents.learning import LearningSummary
from curation.recipes.learning_recipe import LearnRecipe, parse_learn_recipe
from curation.selection.flops import Point
from curation.storage.store import open_store


def finished(recipe: LearnRecipe, listing: PinnedInput) -> dict[str, Any] | None:
    """The summary of this very run, if it is there."""
    store = open_store(recipe.output, recipe.options)
    try:
        found = read_json(store, "summary.json", LearningSummary, "")
    except (NotFoundError, LedgerError):
        return None
    told = {"identity": recipe.identity, "data_sha256": listing.sha256, "held_out_sha256": listing.held_out_sha256}
    same = all(found.get(name) == value for name, value in told.items())
    whole = store.exists(found["key"])
    return found if same and whole and _compared_alike(found, recipe) else None


def _compared_alike(found: Mapping[str, Any], recipe: LearnRecipe) -> bool:
    """Whether a summary compares with the run that the recipe names, as that is now; one that is gone is not asked."""
    against = found.get("against") or {}
    if recipe.compare is None or against.get("run") != recipe.compare:
        return against.get("run") == recipe.compare
    try:
        return bool(against.get("sha256") == summary_sha256(summary_of(recipe.compare, recipe)))
    except UserError:
        return True


def summary_sha256(summary: Mapping[str, Any]) -> str:
    """By which a run that is compared with is known again."""
    return digest([summary.get("sha256"), summary["curve"]])


def summary_of(url: str, recipe: LearnRecipe) -> dict[str, Any]:
    """The summary of another run of a recipe. Raises `UserError` where there is none."""
    try:
        fix = "name a run of a recipe; the same recipe with --set selection.selector=uniform --set compare=null"
        found = read_json(open_store(url, recipe.options), "summary.json", LearningSummary, fix)
    except NotFoundError:
        raise UserError(f"{url} holds no finished run to compare with", fix="run that one first") from None
    except LedgerError as error:
        raise UserError(f"{url} holds no learning curve to compare with: {error}", fix=error.fix) from None
    if recipe.kind not in found["recipe"]["learner"]:
        kind = ", ".join(found["recipe"]["learner"])
        text = f"{url} is a run of another kind of learner ({kind}), whose quality is another figure"
        raise UserError(text, fix=f"compare with a run of a {recipe.kind} learner")
    return found


def differences(recipe: LearnRecipe, data: Data, room: int | None, other: Mapping[str, Any]) -> list[str]:
    """In what another run is no uniform run of the same learner: names of settings, `selection` first. `room`: samples
    of a window, where there are several."""
    theirs = parse_learn_recipe(yaml.safe_dump(dict(other["recipe"])), "the recipe of the run that is compared with")
    found = ["selection"] if theirs.selection.selector.roles() or theirs.replay else []
    found += ["data"] if data.candidates.sha256 != other.get("candidates_sha256") else []
    found += ["held-out samples"] if data.held_out_sha256 != other.get("held_out_sha256") else []
    found += ["memory"] if room != other.get("room") else []
    wanted, had = dataclasses.asdict(recipe.learner), dataclasses.asdict(theirs.learner)
    found += [name for name, value in wanted.items() if had.get(name) != value]
    return found + [
        name for name in ("evaluation", "holdout", "weighted") if getattr(recipe, name) != getattr(theirs, name)
    ]


def judged_alike(differs: Sequence[str]) -> bool:
    """Whether the qualities of two runs are figures of the same samples, by their `differences`."""
    return not {"held-out samples", "holdout"} & set(differs)


def verdict(positive: bool | None) -> str:
    """`compute_positive` in a word; None where something is not counted that may change the answer."""
    return "unknown" if positive is None else str(positive).lower()


def curve_of(summary: Mapping[str, Any]) -> list[Point]:
    """The learning curve of a run from its summary."""
    return [Point(row["updates"], row["quality"], row["totals"]) for row in summary["curve"]]
