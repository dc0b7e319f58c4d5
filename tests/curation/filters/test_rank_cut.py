"""The cut by rank that filters share: exact at ties, for any number to keep."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.filters.rank_cut import below_rank

SCORES = st.lists(st.sampled_from([0.0, -0.0, 0.5, 1.0, -2.5]), max_size=12)


@pytest.mark.slow
@settings(max_examples=60)
@given(SCORES, st.integers(0, 14))
def test_what_leaves_is_all_but_the_first_in_order(scores: list[float], most: int) -> None:
    with duckdb.connect() as db:
        db.execute("CREATE TABLE alive (id BIGINT, uid VARCHAR, score FLOAT)")
        for n, score in enumerate(scores):
            db.execute("INSERT INTO alive VALUES (?, ?, ?)", [n, f"{n * 7 % 13:02d}", score])
        found = db.execute(below_rank("score", str(most), "low")).fetchall()
    ranked = sorted(range(len(scores)), key=lambda n: (-scores[n], f"{n * 7 % 13:02d}"))
    assert sorted(found) == [(n, "low") for n in sorted(ranked[most:])]


@pytest.mark.parametrize("name", ["v", "k", "c", "place", "cut", "select", "a b"])
def test_a_score_may_have_any_name(name: str) -> None:
    with duckdb.connect() as db:
        db.execute(f"""CREATE TABLE alive AS SELECT i AS id, i::VARCHAR AS uid, i % 3 AS "{name}" FROM range(9) r(i)""")
        found = db.execute(below_rank(name, "SELECT count(*) // 3 FROM alive", "")).fetchall()
    assert sorted(found) == [(n, "") for n in (0, 1, 3, 4, 6, 7)]
