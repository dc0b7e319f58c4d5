"""The types part: groups of failures within one side, by gradients, features or chance, at equal k."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np
import torch
from bench.diagnosis.bars import Bar, spread, table
from bench.diagnosis.hidden import Failed, Hidden, failed, hide, information
from torch import Tensor

from curation.diagnosis.finding_types import failure_gradients
from curation.diagnosis.tuning import TunedClassifier
from curation.diagnosis.type_matrix import FailureGroup, independence, learnability, matrix
from curation.diagnosis.type_queries import tower_features
from curation.diagnosis.type_tuning import GroupTuner, TypeTuning
from curation.diagnosis.types import FITTED, group_failures

K, MORE = 2, 0.1  # groups of a side; the bar above random types
JUDGES = 400
KEPT = 0.9  # share at which a tuning should have stopped: 2109.12347, section 3.2
WAYS = ("gradients", "features", "random")


def measure(seed: int) -> dict[str, float]:
    """Return learnability, independence and information about the hidden class of each way, mean of both sides."""
    world = hide(seed)
    found = failed(world, seed)
    tuner, vectors = _tuner(world, found), vectors_of(world, found)
    figures: dict[str, list[float]] = {}
    for target in (0, 1):
        rows = found.side(target)
        for way in WAYS:
            groups = groups_of(way, found, rows, vectors, seed)
            measured = {one.name: tuner(one) for one in groups}
            a = matrix(groups, measured)
            place = {uid: number for number, one in enumerate(groups) for uid in (*one.members, *one.held_out)}
            uids = [found.pictures.uids[row] for row in rows]
            known = information(
                torch.tensor([place[uid] for uid in uids]), torch.tensor([world.hidden[uid] for uid in uids])
            )
            for name, value in (
                ("learnability", learnability(a)),
                ("independence", independence(a)),
                ("information", known),
                ("kept", min(one.kept for one in measured.values())),
            ):
                figures.setdefault(f"{way}|{name}", []).append(float("nan") if value is None else value)
    return {name: fmean(values) for name, values in figures.items()}


def groups_of(
    way: str, found: Failed, rows: Sequence[int], vectors: dict[str, Tensor], seed: int
) -> list[FailureGroup]:
    """Return `K` groups of one side."""
    uids, parts = [found.pictures.uids[row] for row in rows], [found.parts[row] for row in rows]
    if way != "random":
        return group_failures(uids, parts, vectors[way][list(rows)], k=K, seed=seed)[0]
    numbers = np.random.default_rng([seed, len(rows)]).integers(0, K, len(rows))
    return [
        FailureGroup(str(number), *(
            tuple(uid for uid, part, own in zip(uids, parts, numbers, strict=True)
                  if own == number and (part in FITTED) == fitted)
            for fitted in (True, False)
        ))
        for number in range(K)
    ]  # fmt: skip


def vectors_of(world: Hidden, found: Failed) -> dict[str, Tensor]:
    return {
        "gradients": failure_gradients(world.subject, found.pictures),
        "features": tower_features(world.subject, found.pictures),
    }


def _tuner(world: Hidden, found: Failed) -> GroupTuner:
    fitted = torch.tensor([part in FITTED for part in found.parts])
    fit, held = (found.pictures.take(torch.nonzero(some)[:, 0]) for some in (fitted, ~fitted))
    right, judge = found.right.take(range(JUDGES, len(found.right))), found.right.take(range(JUDGES))
    return GroupTuner(lambda: TunedClassifier.of(world.subject), fit, held, right, judge, TypeTuning())


def lines(found: Sequence[dict[str, float]]) -> list[str]:
    """Return the report: bars, then every way."""

    def of(name: str) -> list[float]:
        return [one[name] for one in found]

    def gain(other: str, name: str) -> list[float]:
        return [one[f"gradients|{name}"] - one[f"{other}|{name}"] for one in found]

    above, beside = gain("random", "independence"), gain("features", "independence")
    known = [gain(other, "information") for other in ("random", "features")]
    bars = [
        Bar(f"independence of gradient types >= random types + {MORE}", spread(above), fmean(above) >= MORE),
        Bar("independence of gradient types >= feature clusters", spread(beside), fmean(beside) >= 0),
        Bar("mutual information with the hidden class above random types", spread(known[0], 3), fmean(known[0]) > 0),
        Bar(
            "mutual information with the hidden class above feature clusters", spread(known[1], 3), fmean(known[1]) > 0
        ),
    ]
    least = min(of("gradients|kept"))
    bars.insert(0, Bar(
        f"the tuned models keep >= {KEPT} of other correct samples, without which A says little",
        spread(of("gradients|kept")), least >= KEPT,
    ))  # fmt: skip
    columns = ("learnability", "independence", "information", "kept")
    rows = [f"| {way} | " + " | ".join(spread(of(f"{way}|{name}"), 3) for name in columns) + " |" for way in WAYS]
    head = f"| {K} groups a side, by | " + " | ".join(columns) + " |"
    return [*table(bars), head, "|---" * (len(columns) + 1) + "|", *rows]
