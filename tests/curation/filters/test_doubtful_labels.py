"""Filter `doubtful_labels`: the priorities, the cut, and the order of a review queue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from filters_given import SIZES, dropped, expect_equal_to, items_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rows_given import Row, random_rows, table

from curation.curating.decisions import Decisions
from curation.filters import FILTERS, Filter, RankingFilter
from curation.filters.doubtful_labels import DoubtfulLabels
from curation.filters.named import NamedFilter

REASONED = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0, 7.0]), st.sampled_from([0.0, 0.3, 0.4, 1.0])), max_size=40
)


def priority(item: DoubtfulLabels, row: Row) -> float:
    """The definition, for the columns of one row."""
    if item.by == "active":
        return float(row[item.error]) - max(0.0, float(np.float32(row[item.ambiguity])) - 0.30)
    if item.by == "oracle":
        return float(row[item.label] != row[item.truth])
    return float(row[{"error": item.error, "margin": item.margin, "disagreement": item.disagreement}[item.by]])


def brute(item: DoubtfulLabels, rows: list[Row]) -> set[int]:
    alive = [i for i, row in enumerate(rows) if row["reason"] is None]
    ranked = sorted(alive, key=lambda i: (-priority(item, rows[i]), rows[i]["uid"]))
    return set(ranked[item.count :])


@pytest.mark.parametrize(
    "item",
    [i for i in items_of(DoubtfulLabels) if i.by not in ("graph", "random")],
    ids=repr,  # type: ignore[attr-defined]
)
@pytest.mark.parametrize("n", SIZES)
def test_equals_brute_force(item: Filter, n: int, tmp_path: Path) -> None:
    expect_equal_to(brute, item, n, tmp_path)


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(REASONED, st.integers(1, 50))
def test_any_ties(tmp_path: Path, values: list[tuple[float, float]], count: int) -> None:
    rows = [
        {**row, "score": error, "phash": 0, "width": 1, "reason": None, "ambiguity": ambiguity}
        for row, (error, ambiguity) in zip(random_rows(len(values), 5), values, strict=True)
    ]
    item = DoubtfulLabels(count=count, error="score", ambiguity="ambiguity")
    found = priorities(tmp_path, rows, item, ambiguity=[row["ambiguity"] for row in rows])
    wanted = order(item, rows)[:count]
    assert [uid for uid, _ in found] == [rows[i]["uid"] for i in wanted]
    assert [value for _, value in found] == pytest.approx([priority(item, rows[i]) for i in wanted])


def order(item: DoubtfulLabels, rows: list[Row]) -> list[int]:
    return sorted(range(len(rows)), key=lambda i: (-priority(item, rows[i]), rows[i]["uid"]))


def priorities(tmp: Path, rows: list[Row], item: DoubtfulLabels, **more: Any) -> list[tuple[str, float]]:
    """The queue of an engine that has decided: (uid, priority) in order, by the query of the docstring."""
    whole = table(rows)
    for name, values in more.items():
        kind = pa.string() if values and isinstance(values[0], str) else pa.float32()
        whole = whole.append_column(name, pa.array(values, kind))
    kinds = {name: whole.schema.field(name).type for name in item.columns() if name != "embedding"}
    with Decisions(tmp, [], kinds, ["embedding"] if "embedding" in item.columns() else []) as engine:
        engine.load([(0, whole)])
        engine.decide([NamedFilter("doubtful_labels", item)])
        item.prepare(engine.db)
        query = f"SELECT uid, priority FROM ({item.priorities()}) ORDER BY priority DESC, uid"
        return engine.db.execute(query).fetchall()


def test_it_is_a_ranking_whose_order_is_that_of_the_cut(tmp_path: Path) -> None:
    rows = [{**row, "reason": None} for row in random_rows(200, 3)]
    item = DoubtfulLabels(count=30, by="margin", margin="score")
    assert isinstance(item, RankingFilter) and FILTERS["doubtful_labels"] is DoubtfulLabels
    gone = dropped(tmp_path, rows, item)
    kept = [row["uid"] for i, row in enumerate(rows) if i not in gone]
    found = priorities(tmp_path, rows, item)
    assert len(found) == 30 and sorted(uid for uid, _ in found) == sorted(kept)
    assert set(gone.values()) == {"doubtful_labels"}


def test_random_depends_on_seed_and_uid_alone(tmp_path: Path) -> None:
    rows = [{**row, "reason": None} for row in random_rows(300, 3)]
    one, other = (DoubtfulLabels(count=100, by="random", seed=seed) for seed in (0, 1))
    first, second = (set(dropped(tmp_path, rows, item)) for item in (one, other))
    assert len(first) == len(second) == 200 and 90 < len(first & second) < 170
    half = [row for i, row in enumerate(rows) if i % 2]
    before = dict(priorities(tmp_path, rows, DoubtfulLabels(count=300, by="random")))
    after = dict(priorities(tmp_path, half, DoubtfulLabels(count=300, by="random")))
    assert after.items() <= before.items()


def test_a_planted_label_stands_out_of_its_neighbourhood(tmp_path: Path) -> None:
    random, rows, labels = np.random.default_rng(0), random_rows(400, 3), []
    for number, row in enumerate(rows):
        group = number % 4
        vector = np.eye(8)[group] + 0.2 * random.normal(size=8)
        row |= {"embedding": (vector / np.linalg.norm(vector)).astype(np.float16), "reason": None}
        labels.append("abcd"[group])
    wrong = [11, 42, 333]
    for number in wrong:
        labels[number] = "abcd"[(number + 1) % 4]
    found = priorities(tmp_path, rows, DoubtfulLabels(count=400, by="graph"), label=labels)
    assert {uid for uid, _ in found[:3]} == {rows[number]["uid"] for number in wrong}
    unlabelled = ["" if number == 7 else text for number, text in enumerate(labels)]
    doubts = dict(priorities(tmp_path, rows, DoubtfulLabels(count=400, by="graph"), label=unlabelled))
    assert doubts[rows[7]["uid"]] == 1


@pytest.mark.parametrize("bad", [lambda: DoubtfulLabels(count=0), lambda: DoubtfulLabels(count=1, seed=1 << 70)])
def test_senseless_settings_are_refused(bad: Callable[[], Filter]) -> None:
    with pytest.raises(ValueError):
        bad()
