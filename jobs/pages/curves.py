"""The picture of learning runs: their learning curves over updates and over compute."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import click

from curation.recipes.learning_recipe import LearnRecipe
from curation.selection.flops import Point, unit_of
from curation.storage.store import open_store


def curves(runs: Mapping[str, Sequence[Point]], recipe: LearnRecipe) -> str | None:
    """Draw `curves.png` into the run's output and return its URL; None, with a line on stderr, without matplotlib."""
    if find_spec("matplotlib") is None:
        click.echo("no picture: matplotlib is not installed (pip install 'tutelage[demo]')", err=True)
        return None
    store = open_store(recipe.output, recipe.options)
    store.put("curves.png", draw(runs))
    return store.location("curves.png")


def draw(runs: Mapping[str, Sequence[Point]]) -> bytes:
    """Return a PNG with two panels: quality over updates, and over all compute (also scoring and both small models)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    unit, size = unit_of(max((point.totals["full"] for points in runs.values() for point in points), default=0.0))
    for name, points in runs.items():
        quality = [point.quality for point in points]
        left.plot([point.updates for point in points], quality, label=name)
        right.plot([point.totals["full"] / size for point in points], quality, label=name)
    left.set(xlabel="updates of the learner", ylabel="quality on held-out samples")
    right.set(xlabel=f"{unit}, including scoring and both small models")
    for panel in (left, right):
        panel.grid(alpha=0.3)
        panel.set_xlim(left=0)
        panel.locator_params(axis="x", nbins=6)
    left.legend(fontsize=8)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()
