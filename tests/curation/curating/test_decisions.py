"""The decision engine's own bookkeeping: numbers of samples, blocks of bits, batches, totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from decided_rows import decided_rows
from edits_given import edits

from curation.curating import decision_results
from curation.curating.decisions import Decisions
from curation.filters.named import NamedFilter
from curation.filters.threshold import Threshold
from curation.filters.top_fraction import TopFraction
from curation.ledger.recipe_edits import RecipeEdits

N = 150_000  # a few blocks of 65,536


def units() -> Iterator[tuple[int, pa.Table]]:
    """Units of very different sizes; a score as good as random; one in a thousand samples is quarantined."""
    for ordinal, (first, last) in enumerate([(0, 1), (1, 65_000), (65_000, 65_000), (65_000, 140_000), (140_000, N)]):
        at = np.arange(first, last)
        reasons = pa.array(["image_corrupt" if i % 1000 == 0 else None for i in at], pa.string())
        score = pa.array((at * 7919 % N / N).astype(np.float32))
        row = pa.array(at - first, pa.int32())
        uids = pa.array([f"{i:032x}" for i in at], pa.string())
        yield ordinal, pa.table({"row": row, "uid": uids, "reason": reasons, "score": score})


@pytest.mark.slow
def test_filters_see_what_is_left_in_every_block(tmp_path: Path) -> None:
    at = np.arange(N)
    score = (at * 7919 % N / N).astype(np.float32)
    usable = at % 1000 != 0
    good = np.sort(score[usable & (score >= np.float32(0.5))])
    cut = good[len(good) // 2]  # halves round up
    filters = [
        NamedFilter("threshold", Threshold(score="score", min=0.5)),
        NamedFilter("top_fraction", TopFraction(score="score", fraction=0.5)),
    ]
    rescued = [1, 70_001, 140_001]
    with Decisions(tmp_path, [], {"score": pa.float32()}) as engine:
        engine.load(units())
        for keep in ([], rescued):
            engine.clear()
            engine.decide(filters, RecipeEdits(edits(*((f"{i:032x}", "keep") for i in keep))))
            kept = usable & ((score >= cut) | np.isin(at, keep))
            rows = decided_rows(engine, 0, 4)
            assert rows.num_rows == N
            assert np.array_equal(np.array(rows.column("decision").to_pylist()) == "kept", kept)
            assert engine.db.execute("SELECT count(*) FROM alive").fetchall() == [(kept.sum(),)]
            per_unit = {0: 1, 1: 64_999, 3: 75_000, 4: 10_000}
            assert [(unit, n) for unit, _, n in decision_results.kept_per_unit(engine)] == list(per_unit.items())
            assert sum(n for _, n, _ in decision_results.kept_per_unit(engine)) == kept.sum()
            reasons = Counter(rows.column("reason").to_pylist())
            del reasons[None]
            quarantined = {"image_corrupt": reasons.pop("image_corrupt")}
            expected = {"seen": N, "kept": kept.sum(), "filtered": dict(reasons), "quarantined": quarantined}
            assert decision_results.totals(engine) == expected


@pytest.mark.slow
def test_what_other_snapshots_keep_is_loaded_whole_in_batches(tmp_path: Path) -> None:
    def tables(first: int, sizes: list[int]) -> Iterator[pa.Table]:
        for size in sizes:
            uids = [f"{i:032x}" for i in range(first, first + size)]
            content = pa.array([uid[::-1] for uid in uids], pa.string())
            hashes = pa.array(range(first, first + size), pa.int64())
            yield pa.table({"uid": pa.array(uids, pa.string()), "content_hash": content, "phash": hashes})
            first += size

    def manifest(first: int, size: int) -> pa.RecordBatchReader:
        at = range(first, first + size)
        decisions = ["kept" if i % 3 else "filtered" for i in at]
        return pa.table({"uid": [f"{i:032x}" for i in at], "decision": decisions}).to_reader()

    sizes = [1] * 1500 + [0, 60_000, 60_000, 7]  # more than a batch in tables, then in rows
    own = (False, manifest(0, sum(sizes)), tables(0, sizes))
    snapshots = [own, (True, manifest(5, 4), tables(5, [4])), (False, manifest(5, 4), ())]
    with Decisions(tmp_path, [], {"phash": pa.int64()}) as engine:
        engine.load_others("others", ["phash"], snapshots)
        found = engine.db.execute("SELECT snapshot, uid, content_hash, phash FROM others ORDER BY ALL").fetchall()
        assert engine.db.execute("SELECT DISTINCT snapshot, own FROM others ORDER BY 1").fetchall() == [
            (0, False),
            (1, True),
        ]
    expected = [(0, i) for i in range(sum(sizes)) if i % 3] + [(1, i) for i in (5, 7, 8)]
    assert found == [(place, f"{i:032x}", f"{i:032x}"[::-1], i) for place, i in expected]


@pytest.mark.parametrize("batch", [7, 1 << 16])
def test_groups_of_units_are_cut_from_one_ordered_pass(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For any number of groups and any batch size: the same number of queries, and each row once."""
    monkeypatch.setattr("curation.curating.decision_results.ROWS_AT_ONCE", batch)
    sizes = np.random.default_rng(0).integers(0, 30, 200)
    with Decisions(tmp_path, [], {"score": pa.float32()}) as engine:
        engine.load((unit, _unit(unit, size)) for unit, size in enumerate(sizes.tolist()))
        engine.decide([NamedFilter("threshold", Threshold(score="score", min=0.5))])
        whole = decided_rows(engine, 0, 199)
        queries: dict[int, int] = {}
        for each in (1, 3, 50):
            counting = _Counting(engine.db)
            monkeypatch.setattr(engine, "db", counting)
            bounds = [(first, min(first + each, 200) - 1) for first in range(0, 200, each)]
            groups = list(decision_results.of_groups(engine, bounds))
            monkeypatch.setattr(engine, "db", counting.db)
            queries[each] = counting.queries
            assert pa.concat_tables(groups).equals(whole)
            for (first, last), rows in zip(bounds, groups, strict=True):
                assert rows.num_rows == sizes[first : last + 1].sum()
                assert set(rows.column("unit").to_pylist()) <= set(range(first, last + 1))
        assert set(queries.values()) == {1}
        some = whole.filter(pc.is_in(whole.column("unit"), pa.array(range(5, 10))))
        assert decided_rows(engine, 5, 9).equals(some)
        assert decided_rows(engine, 300, 400).num_rows == 0


@pytest.mark.slow
def test_a_writer_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    """The pass over all groups is broken off in the middle."""
    with (
        pytest.raises(RuntimeError, match="a store failed"),
        Decisions(tmp_path, [], {"score": pa.float32()}) as engine,
    ):
        engine.load((unit, _unit(unit, 1000)) for unit in range(200))
        engine.decide([])
        for rows in decision_results.of_groups(engine, ((unit, unit) for unit in range(200))):
            assert rows.num_rows == 1000
            raise RuntimeError("a store failed")
    assert not list(tmp_path.iterdir())


def _unit(unit: int, size: int) -> pa.Table:
    score = pa.array(np.random.default_rng(unit).random(size).astype(np.float32))
    uids = pa.array([f"{unit:016x}{row:016x}" for row in range(size)], pa.string())
    reason = pa.array(["image_corrupt" if row % 9 == 8 else None for row in range(size)], pa.string())
    return pa.table({"row": pa.array(range(size), pa.int32()), "uid": uids, "reason": reason, "score": score})


class _Counting:
    """A connection that counts its queries, its cursors' too."""

    def __init__(self, db: Any) -> None:
        self.db, self.queries = db, 0

    def cursor(self) -> _Counting:
        return self

    def sql(self, query: str) -> Any:
        self.queries += 1
        return self.db.cursor().sql(query)
