"""The methods that are compared on one set of noisy labels: how many answers each needs, and what it has fixed.

Every method ranks the same items and gets the same answers: the n-th answer to an item is a function of the seed. It is
asked for twice the budget, so that a method that is slower than random order has a figure, too.

    random        the end point: the mean number of correct labels after the budget, over `RANDOM` orders
    ratio         budget / answers after which a method has as many correct labels for the first time
    fixed         correct labels after the budget, minus those before
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench.labels import simulation
from bench.labels.noisy import Array, Noisy
from bench.labels.simulation import Cleaned

RANDOM = 10  # random orders: the end point of one varies by 3 %
SHUFFLED = 3  # draws of the control
FURTHER = 2  # budgets that a method may spend to reach the end point
OURS = ("active", "error", "margin", "disagreement", "graph")
CONTROLS = ("shuffled", "entropy")
CLEANLAB = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
SCRIPT = Path(__file__).parents[1] / "peers" / "cleanlab_run.py"


@dataclass(frozen=True)
class Figures:
    """What a method did. `reached`: False if it never had as many correct labels; the ratio is then an upper bound."""

    ratio: float
    fixed: float
    reached: bool = True


@dataclass
class Comparison:
    """All methods on one set of labels: figures by method, and the labels after the budget by some of them."""

    figures: dict[str, Figures]
    cleaned: dict[str, Array]  # `active`, and `random 0`, `random 1`, ...


def compare(
    data: Noisy, posterior: Array, seed: int, *, runs: Array | None = None, embedding: Array | None = None,
    cleanlab: str | None = None,
) -> Comparison:  # fmt: skip
    """Simulate every method. posterior: [N, K]. cleanlab: the interpreter that has it.

    `disagreement` needs several runs, [R, N, K], and `graph` an embedding, [N, D].
    """
    uids, truth = data.pictures.uids, data.truth
    scores = simulation.columns(data.labels, posterior, truth, runs=runs, embedding=embedding)
    ask = simulation.annotator(uids, data.pictures.votes, data.classes, seed)

    def clean(rows: Array, budgets: int = FURTHER) -> Cleaned:
        return simulation.clean(uids, data.labels, truth, data.classes, rows, budgets * data.budget, ask)

    orders = [simulation.order(uids, scores, "random", seed * RANDOM + number) for number in range(RANDOM)]
    at_random = [clean(rows, 1) for rows in orders]
    before = int((data.labels == truth).sum())
    target = float(np.mean([one.correct[-1] for one in at_random]))
    found = Comparison({"random": Figures(1.0, target - before)}, {})
    for number, one in enumerate(at_random):
        found.cleaned[f"random {number}"] = one.labels
    found.cleaned["active"] = clean(simulation.order(uids, scores, "active"), 1).labels
    for name, rows in _orders(data, scores, posterior, seed, cleanlab):
        figures = [_figures(clean(one), target, data.budget, before) for one in rows]
        found.figures[name] = _mean(figures)
    return found


def _orders(
    data: Noisy, scores: Mapping[str, object], posterior: Array, seed: int, cleanlab: str | None
) -> Iterator[tuple[str, list[Array]]]:
    """Yield each method with its orders: one, or several whose figures are averaged."""
    uids = data.pictures.uids
    lacks = {"disagreement": "label_disagreement", "graph": "embedding"}

    def order(by: str, columns: Mapping[str, object] = scores) -> Array:
        return simulation.order(uids, columns, by)  # type: ignore[arg-type]

    for name in OURS:
        if lacks.get(name, "label") in scores:
            yield name, [order(name)]
    yield "oracle", [order("oracle")]
    yield "entropy", [simulation.by_value(uids, np.array(scores["label_ambiguity"]))]
    random = np.random.default_rng([seed, 99])
    mixed = [shuffled(posterior, data.labels, random) for _ in range(SHUFFLED)]
    yield "shuffled", [order("active", simulation.columns(data.labels, one)) for one in mixed]
    if cleanlab:
        for name, values in quality(cleanlab, data.labels, posterior).items():
            yield f"cleanlab {name}", [simulation.by_value(uids, -values)]


def shuffled(posterior: Array, labels: Array, random: np.random.Generator) -> Array:
    """Return the distributions with those of samples of one given label permuted: a control that must lose."""
    found = posterior.copy()
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        found[rows] = posterior[random.permutation(rows)]
    return found


def quality(python: str, labels: Array, posterior: Array) -> dict[str, Array]:
    """Return cleanlab's label-quality scores by method, in its own environment: low for doubtful labels."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "given.npz", Path(folder) / "found.npz"
        np.savez(given, labels=labels, posterior=posterior)
        subprocess.run([python, str(SCRIPT), str(given), str(found), *CLEANLAB], check=True, capture_output=True)
        with np.load(found) as read:
            return {name: read[name] for name in CLEANLAB}


def _figures(cleaned: Cleaned, target: float, budget: int, before: int) -> Figures:
    answers = cleaned.answers_to(target)
    last = min(budget, len(cleaned.correct) - 1)
    fixed = float(cleaned.correct[last] - before)
    if answers is None:
        return Figures(budget / max(1, len(cleaned.correct) - 1), fixed, reached=False)
    return Figures(budget / max(1, answers), fixed)


def _mean(figures: list[Figures]) -> Figures:
    def mean(of: Callable[[Figures], float]) -> float:
        return float(np.mean([of(one) for one in figures]))

    return Figures(mean(lambda one: one.ratio), mean(lambda one: one.fixed), all(one.reached for one in figures))
