"""What links near duplicates: components of the pairs, as the table that the filter reads."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.filters.near_duplicates import components


def test_a_long_chain_is_one_component_in_a_few_passes() -> None:
    chain = "(i * 7919) % 3001 AS a, ((i + 1) * 7919) % 3001 AS b"
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE edges AS SELECT {chain} FROM range(3000) t(i)")
        components(db, "edges", "found")
        assert db.execute("SELECT count(*), count(DISTINCT root), min(root) FROM found").fetchone() == (3001, 1, 0)


def found(db: duckdb.DuckDBPyConnection, edges: list[tuple[int, int]]) -> dict[int, int]:
    a, b = (pa.array([edge[side] for edge in edges], pa.int64()) for side in (0, 1))
    db.register("edges", pa.table({"a": a, "b": b}))
    components(db, "edges", "found")
    assert db.execute("SELECT table_name FROM duckdb_tables()").fetchall() == [("found",)]  # and nothing is left behind
    return dict(db.execute("SELECT h, root FROM found").fetchall())


def brute(edges: list[tuple[int, int]]) -> dict[int, int]:
    root = {node: node for edge in edges for node in edge}
    for a, b in edges:
        least, other = sorted((root[a], root[b]))
        root = {node: least if of == other else of for node, of in root.items()}
    return root


NODES = st.integers(-12, 12) | st.sampled_from([-(2**63), 2**63 - 1])


def test_the_root_is_the_least_of_all_that_are_linked() -> None:
    with duckdb.connect() as db:

        @settings(max_examples=25)
        @given(st.lists(st.tuples(NODES, NODES), max_size=25))
        def holds(edges: list[tuple[int, int]]) -> None:
            assert found(db, edges) == brute(edges)

        holds()


def test_ends_that_are_linked_by_others_are_one() -> None:
    """A star around its greatest; a line in order; stars that share points; a tree of random numbers."""
    star = [(99, leaf) for leaf in range(40)]
    line = [(n, n + 1) for n in range(100, 300)]
    shared = [(centre, leaf) for centre in range(1000, 1010) for leaf in (centre - 500, centre - 499)]
    names = np.random.default_rng(0).permutation(400) + 2000
    tree = [(int(names[n]), int(names[n // 3])) for n in range(1, 400)]
    edges = star + line + shared + tree
    with duckdb.connect() as db:
        assert found(db, edges) == brute(edges)
