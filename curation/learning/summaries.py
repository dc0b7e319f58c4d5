"""Summaries of finished runs: `summary.json`, written last, by which a run is known to be whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curation.core.digest import digest
from curation.core.errors import LedgerError, NotFoundError, UserError
from curation.ledger.documents import read_json
from curation.ledger.documents.learning import LearningSummary
from curation.recipes.learning_recipe import LearnRecipe
from curation.selection.flops import Point
from curation.storage.store import open_store


def summary_of(url: str, recipe: LearnRecipe) -> dict[str, Any]:
    """Return the summary of another run of a recipe. Raises `UserError` where there is none of this kind of learner."""
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


def summary_sha256(summary: Mapping[str, Any]) -> str:
    """Return the hash by which a run to compare with is recognised: of its weights and its learning curve."""
    return digest([summary.get("sha256"), summary["curve"]])


def curve_of(summary: Mapping[str, Any]) -> list[Point]:
    """Return the learning curve of a finished run."""
    return [Point(row["updates"], row["quality"], row["totals"]) for row in summary["curve"]]
