"""The order of models by accuracy under several labellings of the same samples, and the pairs that change places.

When to use: an evaluation set was corrected, and the question is whether that changes which model is best. Each model
judges each sample once; a labelling costs nothing more. Kendall's tau (tau-b, which counts ties) compares two orders: 1
for equal ones, -1 for opposite ones. A pair changes places if one model is strictly ahead under one labelling and
strictly behind under the other. Because a pair that is nearly equal changes places by chance, each difference has an
interval (McNemar's exact test, `core.paired_hits`), corrected for all pairs and labellings of the report together.
Source: Kendall (1945). Cost: a comparison of the hits of each pair of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.core.errors import UserError
from curation.core.intervals import CORRECTION, LEVEL, wilson
from curation.core.paired_hits import TEST, hit_difference

Bools = npt.NDArray[np.bool_]


def model_order(
    guesses: Mapping[str, Sequence[Any]], labels: Mapping[str, Sequence[Any]], classes: int = 0
) -> dict[str, Any]:
    """Rank models under each labelling, and compare the ranks.

    guesses: the class that each model gives to each of N samples. labels: the label of each sample by labelling. Both
    are names or numbers, and None for a sample without one: it is left out under this labelling, or, where a model has
    no guess, under all. classes: their number, for the accuracy by chance; 0 counts the labels.

    Returns a JSON object: `labellings` and `models` by name (`no_guess`: labels of samples without a guess), `orders`
    (tau, and the number of pairs that change places) for each two labellings, and `pairs` (the difference under each
    labelling, and between which the two change places).
    Raises `UserError` where a labelling leaves no sample.
    """
    given = {name: _column(values) for name, values in guesses.items()}
    judged = np.logical_and.reduce([_present(values) for values in given.values()])
    truths = {name: _column(values) for name, values in labels.items()}
    counted = {name: judged & _present(truth) for name, truth in truths.items()}
    for name, rows in counted.items():
        if not rows.any():
            text = f"no sample has a label under the labelling {name!r} that all models can give"
            raise UserError(text, fix="name the json field that holds the label, and models of these classes")
    hits = {
        model: {name: np.asarray(guess[counted[name]] == truth[counted[name]], bool) for name, truth in truths.items()}
        for model, guess in given.items()
    }
    classes = classes or len({label for name, truth in truths.items() for label in truth[counted[name]].tolist()})
    right = {model: {name: int(found.sum()) for name, found in by.items()} for model, by in hits.items()}
    ranks = {name: _ranks({model: by[name] for model, by in right.items()}) for name in truths}
    pairs = list(combinations(given, 2))
    comparisons = len(pairs) * len(truths)
    compared = [_pair(*pair, hits, comparisons) for pair in pairs]

    def of_model(model: str, name: str) -> dict[str, Any]:
        rate = wilson(right[model][name], len(hits[model][name]), 1 / max(1, classes))
        return {**asdict(rate), "rank": ranks[name][model]}

    return {
        "labellings": {
            name: {"samples": int(rows.sum()), "no_guess": int((_present(truths[name]) & ~judged).sum())}
            for name, rows in counted.items()
        },
        "models": {model: {name: of_model(model, name) for name in truths} for model in hits},
        "orders": [_order(*names, right, compared) for names in combinations(truths, 2)],
        "pairs": compared,
        "intervals": {"test": TEST, "correction": CORRECTION, "level": LEVEL, "comparisons": comparisons},
    }


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Return Kendall's tau-b of two lists of figures; None where one of them has no order (all equal, or one model)."""
    if len(set(one)) < 2 or len(set(other)) < 2:
        return None
    from scipy.stats import kendalltau

    return float(kendalltau(one, other).statistic)


def _column(values: Sequence[Any]) -> npt.NDArray[np.object_]:
    found = np.empty(len(values), object)
    found[:] = list(values)
    return found


def _present(values: npt.NDArray[np.object_]) -> Bools:
    return np.array([value is not None for value in values], bool)


def _ranks(right: Mapping[str, int]) -> dict[str, int]:
    """Return 1 plus the number of models that are strictly better."""
    return {model: 1 + sum(other > own for other in right.values()) for model, own in right.items()}


def _pair(one: str, other: str, hits: Mapping[str, Mapping[str, Bools]], comparisons: int) -> dict[str, Any]:
    """Return the difference of two models under each labelling, and between which labellings they change places."""
    differences = {}
    for name, first in hits[one].items():
        second = hits[other][name]
        counts = int((first & ~second).sum()), int((second & ~first).sum())
        found = hit_difference(*counts, len(first), comparisons)
        differences[name] = {**found._asdict(), "word": found.word}
    changes = [
        [left, right]
        for left, right in combinations(differences, 2)
        if differences[left]["mean"] * differences[right]["mean"] < 0
    ]
    return {"models": [one, other], "differences": differences, "changes": changes}


def _order(
    left: str, right: str, hits: Mapping[str, Mapping[str, int]], pairs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    tau = kendall_tau([by[left] for by in hits.values()], [by[right] for by in hits.values()])
    return {"from": left, "to": right, "tau": tau, "changed": sum([left, right] in pair["changes"] for pair in pairs)}
