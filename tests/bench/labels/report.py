"""The report: a table of methods for each protocol, the learner, the six models, and the bars.

Every line with a figure says `simulated annotators`: no person looked at a picture for this bench.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from bench.labels.measure import ICONS, Measured
from bench.labels.methods import CLEANLAB, CONTROLS, OURS, RANDOM

from curation.core.intervals import Difference, difference, estimate

WHO = "simulated annotators"
SOURCES = {"given": "given probabilities", "own": "proxy of our own"}
TITLES = {
    "active": "active: CE - max(0, H - 0.30)",
    "error": "error: CE alone",
    "margin": "margin",
    "disagreement": "disagreement: BALD of two runs",
    "graph": "graph: label diffusion, no classifier",
    "oracle": "oracle",
    "random": f"random, {RANDOM} orders",
    "entropy": "control: the entropy of the probabilities alone",
    "shuffled": "control: active, probabilities shuffled within each given label",
    **{f"cleanlab {name}": f"cleanlab: {name}" for name in CLEANLAB},
}
ORDER = (*OURS, *(f"cleanlab {name}" for name in CLEANLAB), "random", "oracle", *CONTROLS)
RATIOS = {("14.8 %", "given"): 4.0, ("30 %", "given"): 2.1, ("14.8 %", "own"): 2.7, ("30 %", "own"): 1.6}
OF_ORACLE, SHUFFLED, ENTROPY, MINUTES = 0.65, 0.1, 1.6, 15
ALL_ALIKE = 1 - 1e-9  # tau of equal orders, up to rounding


class Bar(NamedTuple):
    """A figure with the bar it has to reach."""

    title: str
    figure: str
    met: bool

    def __str__(self) -> str:
        return f"| {WHO}: {self.title} | {self.figure} | {'met' if self.met else 'not met'} |"


def report(found: Sequence[Measured], seconds: float) -> list[str]:
    """Return the lines of the page. seconds: of the whole bench."""
    lines = ["| bar | figure, mean over seeds | |", "|---|---|---|", *map(str, bars(found, seconds)), ""]
    for protocol in dict.fromkeys(one.protocol for one in found):
        some = [one for one in found if one.protocol == protocol]
        lines += [*_methods(protocol, some), "", *_learner(some), *_order(some)]
    return lines


def bars(found: Sequence[Measured], seconds: float) -> Iterator[Bar]:
    """Yield every bar of the issue that these measurements can answer."""
    groups = {
        (protocol, source): [one for one in found if one.protocol == protocol and source in one.methods]
        for protocol, source in RATIOS
    }
    measured = {key: some for key, some in groups.items() if some}
    for (protocol, source), some in measured.items():
        title, least = f"{SOURCES[source]}, {protocol} wrong", RATIOS[protocol, source]
        values = ratios(some, source, "active")
        figure = f"{_times(values)}, worst seed {min(values):.2f}"
        yield Bar(
            f"{title}: active needs at least {least} times fewer answers than random", figure, _mean(values) >= least
        )
        if source == "own":
            shares = [own / best for own, best in zip(values, ratios(some, source, "oracle"), strict=True)]
            text = f"{estimate(shares)}, worst seed {min(shares):.2f}"
            yield Bar(f"{title}: at least {OF_ORACLE:.0%} of the oracle's ratio", text, _mean(shares) >= OF_ORACLE)
    for (protocol, source), some in measured.items():
        title = f"{SOURCES[source]}, {protocol} wrong"
        values = ratios(some, source, "shuffled")
        yield Bar(
            f"{title}: shuffled within labels gives 1.0 ± {SHUFFLED}",
            _times(values),
            abs(_mean(values) - 1) <= SHUFFLED,
        )
        values = ratios(some, source, "entropy")
        yield Bar(f"{title}: entropy alone stays under {ENTROPY}", _times(values), _mean(values) < ENTROPY)
    for (protocol, source), some in measured.items():
        if all(source in one.learner for one in some):
            gain = learner_gain(some, source)
            text = f"{_points(gain)} points: {gain.word}"
            title = f"{SOURCES[source]}, {protocol} wrong: a learner on the corrected labels beats equal-budget random"
            yield Bar(f"{title}, interval without 0", text, gain.word == "better")
    for (protocol, source), some in measured.items():
        taus = [nearer(one, source) for one in some if one.order]
        if taus:
            nearer_in = sum(cleaned > noisy + 1e-9 for noisy, cleaned in taus)
            text = f"in {nearer_in} of {len(taus)} seeds; tau {_mean([one for one, _ in taus]):.2f} noisy, "
            text += f"{_mean([one for _, one in taus]):.2f} cleaned"
            right = sum(noisy >= ALL_ALIKE for noisy, _ in taus)
            text += f"; the noisy order is the true one already in {right}" if right else ""
            title = f"held-out labels cleaned with {SOURCES[source]}, {protocol} wrong: six models are nearer to their"
            yield Bar(f"{title} true order in all seeds", text, nearer_in == len(taus))
    yield Bar(f"the bench takes under {MINUTES} minutes", f"{seconds / 60:.1f} minutes", seconds < 60 * MINUTES)


def ratios(found: Sequence[Measured], source: str, method: str) -> list[float]:
    """Return budget / answers of a method, one a seed."""
    return [one.methods[source][method].ratio for one in found]


def learner_gain(found: Sequence[Measured], source: str, *, ridge: bool = False) -> Difference:
    """Return the accuracy after active cleaning minus that after random order, by seed.

    Its interval holds together with those of all protocols and sources.
    """
    by_seed = {one.seed: (one.ridge if ridge else one.learner)[source] for one in found}
    arms = [{seed: accuracies[arm] for seed, accuracies in by_seed.items()} for arm in ("active", "random")]
    return difference(*arms, comparisons=len(RATIOS))


def nearer(one: Measured, source: str) -> tuple[float, float]:
    """Return Kendall's tau of the order by the true labels with that by the noisy ones, and by the cleaned ones."""
    taus = {(order["from"], order["to"]): order["tau"] for order in one.order["orders"]}
    found = taus["noisy", "true"], taus[source, "true"]
    return tuple(-1.0 if tau is None else tau for tau in found)  # type: ignore[return-value]


def _methods(protocol: str, found: Sequence[Measured]) -> Iterator[str]:
    first = found[0]
    wrong, budget = (_mean([getattr(one, name) for one in found]) for name in ("wrong", "budget"))
    what = "openmoji-icons, labels = packs" if protocol == ICONS else f"cifar10h, {protocol} wrong"
    sources = [source for source in SOURCES if source in first.methods]
    yield f"**{what}, {WHO}**"
    yield ""
    pictures = f"{first.samples:,} pictures, {wrong / first.samples:.1%} of whose first labels are wrong"
    yield (
        f"- {WHO}: {budget:,.0f} answers for {pictures}; means and 95 % intervals over {len(found)} seeds. Fixed: "
        "correct labels after the budget, minus those before."
    )
    yield from _entropy_term(found)
    accuracies = [one.accuracy for one in found if one.accuracy is not None]
    if accuracies:
        yield f"- {WHO}: the proxy of our own is right for {_mean(accuracies):.1%} of the pictures, out of fold"
    yield ""
    yield "| method |" + "".join(f" {SOURCES[source]}: times fewer answers | fixed |" for source in sources)
    yield "|---|" + "---:|---:|" * len(sources)
    for method in ORDER:
        if any(method in first.methods[source] for source in sources):
            cells = [cell for source in sources for cell in _cells(found, source, method)]
            yield f"| {WHO}: {TITLES[method]} | {' | '.join(cells)} |"


def _cells(found: Sequence[Measured], source: str, method: str) -> list[str]:
    if any(method not in one.methods[source] for one in found):
        return ["", ""]
    figures = [one.methods[source][method] for one in found]
    sign = "" if all(one.reached for one in figures) else "at most "
    return [sign + _times([one.ratio for one in figures]), f"{_mean([one.fixed for one in figures]):,.0f}"]


def _entropy_term(found: Sequence[Measured]) -> Iterator[str]:
    """Say whether the entropy term earned its place."""
    for source in SOURCES:
        if source not in found[0].methods:
            continue

        def minus(of: Callable[[Measured, str], float], source: str = source) -> Difference:
            arms = [{one.seed: of(one, name) for one in found} for name in ("active", "error")]
            return difference(*arms)

        ratio = minus(lambda one, name: one.methods[source][name].ratio)  # noqa: B023
        points = minus(lambda one, name: 100 * one.methods[source][name].fixed / one.samples)  # noqa: B023
        gain = f"{ratio} times ({ratio.word}) and {points} points of correct labels after the budget ({points.word})"
        yield f"- {WHO}, {SOURCES[source]}: the entropy term (active minus error) gains {gain}"


def _learner(found: Sequence[Measured]) -> Iterator[str]:
    sources = [source for source in SOURCES if source in found[0].learner]
    if not sources:
        return
    yield f"Accuracy of a learner on the other pictures, by the labels that it was trained on, {WHO}. Network: one"
    yield "hidden layer over the features of `proxy-patches`, which fits its labels. Ridge: their head."
    yield ""
    columns = [(source, ridge) for ridge in (False, True) for source in sources]
    names = [f"{'ridge' if ridge else 'network'}, {SOURCES[source]}" for source, ridge in columns]
    yield f"| labels | {' | '.join(names)} |"
    yield "|---|" + "---:|" * len(columns)
    for arm, title in (("noisy", "first labels"), ("random", "cleaned in random order"),
                       ("active", "cleaned by active"), ("true", "true labels")):  # fmt: skip
        shares = [[(one.ridge if ridge else one.learner)[source][arm] for one in found] for source, ridge in columns]
        yield f"| {WHO}: {title} | {' | '.join(str(_percent(share)) for share in shares)} |"
    gains = [_points(learner_gain(found, source, ridge=ridge)) for source, ridge in columns]
    yield f"| {WHO}: active minus random, points | {' | '.join(gains)} |"
    yield ""


def _order(found: Sequence[Measured]) -> Iterator[str]:
    some = [one for one in found if one.order]
    if not some:
        return
    labellings = list(some[0].order["labellings"])
    titles = {"given": "cleaned, given probabilities", "own": "cleaned, proxy of our own"}
    yield f"Six models judged by held-out labels, accuracy in per cent; {WHO}:"
    yield ""
    yield "| model |" + "".join(f" {titles.get(name, name)} |" for name in labellings)
    yield "|---|" + "---:|" * len(labellings)
    for model in some[0].order["models"]:
        cells = [str(_percent([one.order["models"][model][name]["rate"] for one in some])) for name in labellings]
        yield f"| {WHO}: {model} | {' | '.join(cells)} |"
    taus = []
    for name in labellings[:-1]:
        values = [order["tau"] for one in some for order in one.order["orders"]
                  if (order["from"], order["to"]) == (name, "true")]  # fmt: skip
        taus.append(", ".join("-" if tau is None else f"{tau:.2f}" for tau in values))
    yield f"| {WHO}: Kendall's tau with the true order, by seed | {' | '.join(taus)} | |"
    yield ""


def _times(values: Sequence[float]) -> str:
    found = estimate(values)
    return f"{found.mean:.2f}" + ("" if found.half is None else f" ± {found.half:.2f}")


def _points(gain: Difference) -> str:
    return str(Difference(100 * gain.mean, None if gain.half is None else 100 * gain.half, gain.paired))


def _percent(values: Sequence[float]) -> str:
    found = estimate([100 * value for value in values])
    return f"{found.mean:.1f}" + ("" if found.half is None else f" ± {found.half:.1f}")


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
