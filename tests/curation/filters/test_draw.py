"""Chance by uid: uniform, and independent for other seeds and other filters."""

from __future__ import annotations

import duckdb
import numpy as np

from curation.filters.draw import draw


def test_draws_are_uniform_and_other_seeds_and_other_filters_draw_anew() -> None:
    with duckdb.connect() as db:
        db.execute("CREATE TABLE t AS SELECT md5(i::VARCHAR) AS uid FROM range(40000) r(i)")
        some = [draw(0, "a"), draw(1, "a"), draw(0, "it's")]
        values = np.stack([db.execute(f"SELECT {sql} FROM t").fetchnumpy().popitem()[1] for sql in some])
    assert values.min() >= 0 and values.max() < 1
    counts = np.stack([np.histogram(row, 20, (0, 1))[0] for row in values])
    assert np.abs(counts - 2000).max() < 5 * 2000**0.5
    assert np.abs(np.corrcoef(values) - np.eye(3)).max() < 0.03
