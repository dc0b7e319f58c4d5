"""Numbers from a hash of the uid: uniform, and independent for other seeds and other filters."""

from __future__ import annotations

import duckdb
import numpy as np

from curation.filters.hash_uniform import hash_uniform


def test_numbers_are_uniform_and_independent_of_other_seeds_and_filters() -> None:
    with duckdb.connect() as db:
        db.execute("CREATE TABLE t AS SELECT md5(i::VARCHAR) AS uid FROM range(40000) r(i)")
        some = [hash_uniform(0, "a"), hash_uniform(1, "a"), hash_uniform(0, "it's")]
        values = np.stack([db.execute(f"SELECT {sql} FROM t").fetchnumpy().popitem()[1] for sql in some])
    assert values.min() >= 0 and values.max() < 1
    counts = np.stack([np.histogram(row, 20, (0, 1))[0] for row in values])
    assert np.abs(counts - 2000).max() < 5 * 2000**0.5
    assert np.abs(np.corrcoef(values) - np.eye(3)).max() < 0.03
