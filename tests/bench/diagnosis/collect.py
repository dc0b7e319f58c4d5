"""The collect part: pool pictures like a type of failure, beside as many random ones: what tuning on them repairs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import fmean

import numpy as np
from bench.diagnosis.bars import Bar, spread, table
from bench.diagnosis.hidden import failed, hide
from bench.diagnosis.types import JUDGES, KEPT, groups_of, vectors_of

from curation.diagnosis.pictures import LabelledPictures
from curation.diagnosis.tuning import TunedClassifier
from curation.diagnosis.type_matrix import FailureGroup
from curation.diagnosis.type_queries import query_rows, tower_features
from curation.diagnosis.type_tuning import GroupTuner, TypeTuning

COUNT, TIMES = 100, 1.5  # samples collected for a type; the bar beside random ones
WAYS = ("centroid", "classifier", "random", "random of the class", "centroid of the class")


def measure(seed: int) -> dict[str, float]:
    """Return the share of a type's held-out failures that tuning on collected samples makes right, mean over types.

    The pool has right labels. `of the class`: only samples whose label is the expected answer of the type (`collect
    --label`): random ones then move the decision, too.
    """
    world = hide(seed)
    found = failed(world, seed)
    vectors, pool = vectors_of(world, found), world.pool
    ours, others = tower_features(world.subject, pool), tower_features(world.subject, found.right)
    place = {uid: row for row, uid in enumerate(found.pictures.uids)}
    right, judge = found.right.take(range(JUDGES, len(found.right))), found.right.take(range(JUDGES))
    figures: dict[str, list[float]] = {}
    for target in (0, 1):
        other = (pool.targets != target).numpy()
        random = np.random.default_rng([seed, target])
        for group in groups_of("gradients", found, found.side(target), vectors, seed):
            if not group.held_out:
                continue
            held = found.pictures.take([place[uid] for uid in group.held_out])
            own = vectors["features"][[place[uid] for uid in group.members]]
            scores = {"random": random.random(len(pool))}
            for one in query_rows(group.name, own, others):
                scores[one["by"]] = ours.double().numpy() @ np.array(one["vector"])
            for way in ("random", "centroid"):
                scores[f"{way} of the class"] = np.where(other, -np.inf, scores[way])
            for way in WAYS:
                best = _named(pool.take(np.argsort(-scores[way], kind="stable")[:COUNT].copy()))
                tuner = GroupTuner(partial(TunedClassifier.of, world.subject), best, held, right, judge, TypeTuning())
                row = tuner(FailureGroup("collected", tuple(best.uids), tuple(held.uids)))
                figures.setdefault(way, []).append(len(row.right) / len(held))
                figures.setdefault(f"{way}|kept", []).append(row.kept)
    return {way: fmean(values) for way, values in figures.items()}


def _named(pictures: LabelledPictures) -> LabelledPictures:
    return LabelledPictures([f"pool-{uid}" for uid in pictures.uids], pictures.pixels, pictures.targets)


def lines(found: Sequence[dict[str, float]]) -> list[str]:
    """Return the report: the bar, then every way."""
    times = [one["centroid"] / max(one["random"], 1e-9) for one in found]
    text = f"{COUNT} retrieved samples (centroid) fix >= {TIMES} times what {COUNT} random ones of the pool fix"
    rows = [
        f"| {way} | {spread([one[way] for one in found], 3)} | {spread([one[f'{way}|kept'] for one in found])} |"
        for way in WAYS
    ]
    head = "| collected by | held-out failures of the type that are right | kept |"
    kept = [min(one[f"{way}|kept"] for way in ("centroid", "random")) for one in found]
    valid = Bar(f"the tuned models keep >= {KEPT} of other correct samples", spread(kept), min(kept) >= KEPT)
    return [*table([valid, Bar(text, spread(times), fmean(times) >= TIMES)]), head, "|---|---:|---:|", *rows]
