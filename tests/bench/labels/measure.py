"""One measurement: a seed of a protocol, with every part of the bench. Runs in a process of its own, one thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from bench.labels import cifar10h, icons, methods, models, proxies
from bench.labels.methods import Figures
from bench.labels.noisy import Array

PARTS = ("given", "own", "learner", "models", "icons")
ICONS = "icons"  # the protocol that is no share of wrong labels of cifar10h


class Case(NamedTuple):
    """What to measure. protocol: of `cifar10h.TEMPERATURES`, or `ICONS`. folder: has the features of all pictures."""

    protocol: str
    seed: int
    parts: Sequence[str]
    folder: Path
    samples: int
    cleanlab: str | None


@dataclass
class Measured:
    """The figures of a case. `methods`: by source of the probabilities (`given`, `own`), then by method.

    `accuracy`: of the own proxy, out of fold, against the truth. `learner`: of the network, by source; `ridge`: of the
    ridge head. `order`: of six models.
    """

    protocol: str
    seed: int
    samples: int
    wrong: int
    budget: int
    methods: dict[str, dict[str, Figures]] = field(default_factory=dict)
    accuracy: float | None = None
    learner: dict[str, dict[str, float]] = field(default_factory=dict)
    ridge: dict[str, dict[str, float]] = field(default_factory=dict)
    order: dict[str, Any] = field(default_factory=dict)


def measure(case: Case) -> Measured:
    """Measure one case."""
    torch.set_num_threads(1)
    return _icons(case) if case.protocol == ICONS else _cifar10h(case)


def _icons(case: Case) -> Measured:
    pictures, captions, packs = icons.load(case.folder, case.samples)
    data = icons.plant(pictures, captions, packs, case.seed)
    found = Measured(ICONS, case.seed, len(data.labels), data.wrong, data.budget)
    judged = proxies.judge(data, case.seed)
    found.accuracy = float((judged.posterior.argmax(axis=1) == data.truth).mean())
    compared = methods.compare(data, judged.posterior, case.seed, runs=judged.runs, cleanlab=case.cleanlab)
    found.methods["own"] = compared.figures
    return found


def _cifar10h(case: Case) -> Measured:
    pictures, probabilities = cifar10h.load()
    drawn = cifar10h.draw(pictures, probabilities, cifar10h.TEMPERATURES[case.protocol], case.seed, case.samples)
    data = drawn.data
    found = Measured(case.protocol, case.seed, len(data.labels), data.wrong, data.budget)
    embedding = models.read_features(case.folder, models.PATTERNS[0], drawn.rows).numpy()
    cleaned: dict[str, Array] = {}
    for source in ("given", "own"):
        if source not in case.parts:
            continue
        runs = proxies.judge(data, case.seed).runs if source == "own" else None
        posterior = drawn.probabilities if runs is None else runs.mean(axis=0)
        if runs is not None:
            found.accuracy = float((posterior.argmax(axis=1) == data.truth).mean())
        compared = methods.compare(
            data, posterior, case.seed, runs=runs, embedding=embedding, cleanlab=case.cleanlab
        )  # fmt: skip
        found.methods[source], cleaned[source] = compared.figures, compared.cleaned["active"]
        if "learner" in case.parts:
            given = drawn, pictures.truth, compared.cleaned, case.folder
            found.learner[source], found.ridge[source] = models.learner(*given), models.learner(*given, models.guesses)
    if "models" in case.parts:
        found.order = models.six_models(drawn, pictures, cleaned, case.folder, case.seed)
    return found
