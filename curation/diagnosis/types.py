"""Types of failures: groups within one side of the decision, by the repair that they need, and tests of what they are.

1. The gradient of the loss of each failure, with the expected answer, is scaled to length 1: two failures are alike if
   the same change of the weights would repair them. Source: 2109.12347, section 3.1, with sketches of 100 numbers a
   layer.
2. Failures of one side, with one expected answer and one guess, are projected (`clusters`) and grouped by k-means;
   the silhouette chooses k. Query and validation failures make the groups; a held-out failure joins the nearest one.
3. The model is tuned on each group alone (`type_tuning`), and groups that are no types of their own are merged
   (`type_matrix`).

Cost: four training steps a failure for the gradients; for each group, up to `TypeTuning.most` steps on 64 pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from curation.diagnosis.clusters import PROJECTIONS, find_clusters
from curation.diagnosis.type_matrix import (
    FailureGroup,
    Merge,
    TunedRow,
    independence,
    intervals,
    learnability,
    matrix,
    merge_dependent,
)

LEAST = 25  # failures of a side
FITTED = ("query", "validation")  # parts that make the groups
ANY = "*"  # the answer and the guess of a side of all failures


@dataclass(frozen=True)
class Side:
    """The failures of one side. groups: the types that are left; empty for a side with too few failures.

    first: the groups before merges. silhouettes: by number of groups. rows: by the name of a group, merged ones too.
    """

    expected: str
    guess: str
    failures: int
    first: Sequence[FailureGroup] = ()
    groups: Sequence[FailureGroup] = ()
    rows: Mapping[str, TunedRow] = field(default_factory=dict)
    merges: Sequence[Merge] = ()
    silhouettes: Mapping[int, float] = field(default_factory=dict)

    @property
    def a(self) -> list[list[float | None]]:
        """The matrix A of the groups that are left."""
        return matrix(self.groups, self.rows)


def group_failures(
    uids: Sequence[str], parts: Sequence[str], vectors: Tensor, *, projection: str = "pca", k: int | None = None,
    seed: int = 0, first: int = 1,
) -> tuple[list[FailureGroup], Mapping[int, float]]:  # fmt: skip
    """Group the failures of one side by k-means on a projection of vectors `[N, D]`; also return the silhouettes.

    parts: of each failure; only `FITTED` ones make the groups. k: the number of groups; by default the silhouette
    chooses it. first: the number of the first group; groups are numbered by size, the largest first.
    """
    rows, fitted = vectors.double().numpy(), np.array([part in FITTED for part in parts])
    coordinates, transform = PROJECTIONS[projection](rows[fitted], seed)
    limits = {} if k is None else {"least": k, "most": k}
    clusters = find_clusters(coordinates, seed=seed, **limits)
    nearest = np.zeros(len(rows), np.int64)
    nearest[fitted] = clusters.nearest(coordinates)
    if not fitted.all():
        nearest[~fitted] = clusters.nearest(transform(rows[~fitted]))
    found = []
    for number in range(len(clusters.centres)):
        own = np.flatnonzero(nearest == number).tolist()
        found.append(tuple(tuple(sorted(uids[row] for row in own if fitted[row] == held)) for held in (True, False)))
    found.sort(key=lambda pair: (-len(pair[0]), pair))
    groups = [FailureGroup(str(first + place), *pair) for place, pair in enumerate(found)]
    return groups, clusters.silhouettes


def sides_of(
    expected: Sequence[str], guesses: Sequence[str], *, across: bool = False
) -> dict[tuple[str, str], list[int]]:
    """Return the rows of each side, in order of its names. across: one side of all failures."""
    sides: dict[tuple[str, str], list[int]] = {}
    for row, pair in enumerate(zip(expected, guesses, strict=True)):
        sides.setdefault((ANY, ANY) if across else pair, []).append(row)
    return dict(sorted(sides.items()))


def find_sides(
    failures: Sequence[Mapping[str, Any]], vectors: Tensor, measure: Callable[[FailureGroup], TunedRow], *,
    projection: str = "pca", across: bool = False, seed: int = 0,
) -> list[Side]:  # fmt: skip
    """Group the failures of each side, measure the groups, and merge those that are no types of their own.

    failures: uid, expected, guess and part of each. vectors: `[N, D]`, of unit length. A side with fewer than `LEAST`
    failures has no groups.
    """
    found, number = [], 1
    names = sides_of([row["expected"] for row in failures], [row["guess"] for row in failures], across=across)
    for (expected, guess), places in names.items():
        fitted = sum(failures[place]["part"] in FITTED for place in places)
        if len(places) < LEAST or fitted < 3:
            found.append(Side(expected, guess, len(places)))
            continue
        uids, parts = ([failures[place][name] for place in places] for name in ("uid", "part"))
        first, silhouettes = group_failures(
            uids, parts, vectors[places], projection=projection, seed=seed, first=number
        )  # fmt: skip
        number += len(first)
        groups, rows, merges = merge_dependent(first, measure)
        found.append(Side(expected, guess, len(places), first, groups, rows, merges, silhouettes))
    return found


def side_document(side: Side, seed: int = 0) -> dict[str, Any]:
    """Return what a file of types says about one side: what was measured, and what was not."""
    about: dict[str, Any] = {"expected": side.expected, "guess": side.guess, "failures": side.failures}
    if not side.groups:
        return {**about, "types": [], "not_shown": [f"too few: {side.failures} failures, {LEAST} are needed"]}
    a, groups = side.a, side.groups
    known, apart = intervals(groups, side.rows, seed)
    unjudged = (one.name for one in groups if not one.held_out)
    missing = [f"type {name} has no held-out failure: nothing shows that it is one" for name in unjudged]
    broken = [one.name for one in groups if side.rows[one.name].stopped]
    missing += [
        f"type {name}: its tuning ended with {side.rows[name].kept:.0%} of other correct samples right, so that its "
        "row of A is that of a model that forgot the rest" for name in broken
    ]  # fmt: skip
    if len(groups) == 1:
        missing.append("one type is left: independence is not defined")
    if side.expected == ANY:
        missing.append("types of both sides of a decision: the measure proves nothing")
    return {
        **about,
        "types": [one.name for one in groups],
        "matrix": a,
        "learnability": learnability(a),
        "learnability_interval": known,
        "independence": independence(a),
        "independence_interval": apart,
        "first": {one.name: len(one.members) + len(one.held_out) for one in side.first},
        "first_independence": independence(matrix(side.first, side.rows)),
        "merges": [one._asdict() for one in side.merges],
        "silhouettes": {str(k): value for k, value in side.silhouettes.items()},
        "not_shown": missing,
    }
