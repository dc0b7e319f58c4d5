"""Every filter of the table with several settings, and the comparison with a definition in plain Python."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from decided_rows import decided_rows
from rows_given import Row, random_rows, table

from curation.curating.decisions import NO_EDITS, Decisions
from curation.filters import FILTERS, Filter
from curation.filters.algebra import AllOf, AnyOf, NotOf
from curation.filters.boilerplate import Boilerplate
from curation.filters.budget import Budget
from curation.filters.caption import Caption
from curation.filters.cluster_balance import ClusterBalance
from curation.filters.doubtful_labels import DoubtfulLabels
from curation.filters.exact_duplicates import ExactDuplicates
from curation.filters.image_size import ImageSize
from curation.filters.mentions import Mentions
from curation.filters.metaclip_balance import MetaclipBalance
from curation.filters.named import NamedFilter, columns_needed
from curation.filters.near_duplicates import NearDuplicates
from curation.filters.one_of import OneOf
from curation.filters.origin import Origin
from curation.filters.semantic_duplicates import SemanticDuplicates
from curation.filters.soft_cap import SoftCap
from curation.filters.soft_cap_sampling import SoftCapSampling
from curation.filters.threshold import Threshold
from curation.filters.top_fraction import TopFraction
from curation.ledger.recipe_edits import RecipeEdits

WORDS = ("red", "apple", "red apple", "apple red apple", "café", "Red", "sale sale", "日本", "apple  red", "absent")
PARTS = (TopFraction(score="score", fraction=0.4), ImageSize(min_side=100), Threshold(score="score", min=0.2))

#: `decontaminate` is missing: it compares with other snapshots, so its own tests bring them.
ITEMS: list[Filter] = [
    Caption(min_words=2),
    Caption(min_words=1, max_words=3, min_chars=3, max_chars=12, max_repetition=0.4),
    TopFraction(score="score", fraction=0.3),
    TopFraction(score="score", fraction=0.29),
    TopFraction(score="score", fraction=1.0),
    TopFraction(score="score", fraction=0.001),
    ExactDuplicates(),
    ExactDuplicates(of="pair"),
    ExactDuplicates(prefer="score"),
    ImageSize(min_side=64),
    ImageSize(min_side=10, max_aspect=1.5),
    Threshold(score="score", min=0.3),
    Threshold(score="score", min=0.25, max=0.75),
    Boilerplate(most=3),
    Boilerplate(most=1),
    Budget(samples=40),
    Budget(samples=40, score="score"),
    Budget(bytes=100_000, score="score"),
    NearDuplicates(),
    NearDuplicates(distance=0),
    NearDuplicates(distance=7, prefer="score"),
    SemanticDuplicates(clusters=1, threshold=0.9),
    SemanticDuplicates(clusters=1, threshold=0.8, prefer="score"),
    ClusterBalance(column="cluster", most=20),
    ClusterBalance(column="cluster", most=3, prefer="score"),
    ClusterBalance(column="format", most=9, seed=5),
    SoftCap(column="cluster", cap=10),
    SoftCap(column="format", cap=2, alpha=0, weights=False, seed=1),
    SoftCapSampling(score="score"),
    SoftCapSampling(score="score", draws=30, gain=5, penalty=0.5, seed=4),
    Mentions(entries=WORDS[2:]),
    Mentions(entries=WORDS, ignore_case=False),
    MetaclipBalance(entries=WORDS, t=20),
    MetaclipBalance(entries=WORDS, t=1, ignore_case=True, seed=3),
    MetaclipBalance(entries=("absent",), t=1),
    DoubtfulLabels(count=30, error="score", ambiguity="score"),
    DoubtfulLabels(count=30, by="error", error="score"),
    DoubtfulLabels(count=1, by="margin", margin="score"),
    DoubtfulLabels(count=5000, by="disagreement", disagreement="score"),
    DoubtfulLabels(count=30, by="graph", label="format"),
    DoubtfulLabels(count=30, by="random", seed=3),
    DoubtfulLabels(count=30, by="oracle", label="format", truth="caption"),
    OneOf(column="format", values=("png", "jpeg")),
    OneOf(column="format", values=("png", "it's"), keep=False),
    Origin(),
    Origin(keep=("synthetic", "captioned")),
    AllOf(of=PARTS),
    AnyOf(of=PARTS),
    AnyOf(of=PARTS[:1]),
    NotOf(of=PARTS[:2]),
]
#: Rows of the tables on which a filter is compared with its definition.
SIZES = [0, 1, 2, 100, pytest.param(997, marks=pytest.mark.slow)]


def items_of(*classes: type) -> list[Filter]:
    """The settings in `ITEMS` of some filters."""
    return [item for item in ITEMS if type(item) in classes]


def kind(item: Filter) -> str:
    """The name of a filter in the table."""
    return next(name for name, cls in FILTERS.items() if type(item) is cls)


def dropped(
    tmp: Path, rows: list[Row], *filters: Filter, sizes: tuple[int, ...] = (), edits: RecipeEdits = NO_EDITS
) -> dict[int, str | None]:
    """Return row -> reason of every row that isn't kept. The rows come in units of these sizes, or in one unit."""
    named = [NamedFilter(kind(item), item) for item in filters]
    index, scores = columns_needed(named)
    wanted = ["row", "uid", "reason", *index, *scores]
    known = {"phash": pa.int64(), "cluster": pa.int32()}
    kinds = {name: known.get(name, pa.float32()) for name in scores if name != "embedding"}
    ends = np.cumsum(sizes or (len(rows),)).tolist()
    with Decisions(tmp, index, kinds, [name for name in scores if name not in kinds]) as engine:
        whole = table(rows).select(wanted)
        for unit, (start, end) in enumerate(pairwise([0, *ends])):
            engine.load([(unit, whole.slice(start, end - start))])
        engine.decide(named, edits)
        result = decided_rows(engine, 0, len(ends)).to_pylist()
    assert [r["row"] for r in result] == list(range(len(rows)))
    return {r["row"]: r["reason"] for r in result if r["decision"] != "kept"}


def expect_equal_to(brute: Callable[..., set[int]], item: Filter, n: int, tmp: Path) -> None:
    """Compare a filter with its definition on n random rows; `brute(item, rows)` returns the rows that leave."""
    rows = random_rows(n, seed=n)
    quarantined = {i for i, row in enumerate(rows) if row["reason"]}
    found = dropped(tmp, rows, item)
    assert set(found) - quarantined == brute(item, rows) - quarantined
    name = kind(item)
    reasons = [reason or "" for i, reason in found.items() if i not in quarantined]
    assert all(reason == name or reason.startswith(f"{name}.") for reason in reasons)
