"""Edits for tests: rows in short notation as a table, and strategies of edit lists."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from curation.ledger.edit_lists import EDIT_SCHEMA, EditList, edit_list
from curation.ledger.recipe_edits import RecipeEdits, merged
from curation.ledger.uid_lists import UidList

ONE, OTHER, THIRD = "a" * 32, "b" * 32, "c" * 32


def edits(*rows: tuple[Any, ...]) -> pa.Table:
    """Return rows of `EDIT_SCHEMA`; parts that a row leaves out are null."""
    names = EDIT_SCHEMA.names
    whole = [dict(zip(names, row + (None,) * (len(names) - len(row)), strict=True)) for row in rows]
    return pa.Table.from_pylist(whole, schema=EDIT_SCHEMA)


def replaced(uid: str, field: str, value: str, by: str | None = None, at_run: str | None = None) -> tuple[Any, ...]:
    """Return the row of a `replace`; value: JSON text."""
    return (uid, "replace", field, value, None, by, at_run)


_UIDS = st.sampled_from([ONE, OTHER, THIRD])
_BY = st.sampled_from([None, "review", "captions"])
_ROWS = st.one_of(
    st.tuples(_UIDS, st.sampled_from(["keep", "drop"]), st.none(), st.none(), st.none(), _BY),
    st.tuples(_UIDS, st.just("add"), st.none(), st.sampled_from(["a/0.tar", "b/0.tar"]), st.none(), _BY),
    st.tuples(_UIDS, st.just("weight"), st.none(), st.sampled_from(["0.5", "1", "2"]), st.none(), _BY),
    st.tuples(
        _UIDS,
        st.just("replace"),
        st.sampled_from(["label", "caption"]),
        st.sampled_from(['"a"', '"b"']),
        st.sampled_from([None, '"c"', "1"]),
        _BY,
    ),
)


def of_lists(
    keep: pa.Array | None = None, drop: pa.Array | None = None, weights: pa.Table | None = None
) -> RecipeEdits:
    """Return a recipe's lists as its edits. weights: a table of uid and weight."""
    lists: dict[str, UidList | EditList] = {
        name: UidList(uids, b"") for name, uids in (("keep", keep), ("drop", drop)) if uids is not None
    }
    if weights is not None:
        one, other = (weights.column(name).combine_chunks() for name in ("uid", "weight"))
        lists["weights"] = UidList(one, b"", other.cast(pa.float32()))
    return merged(lists, {}, last_wins=False)


def slot(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """What an edit is about: the definition, in plain Python."""
    uid, verb, field, *_ = row
    return (uid, "decision" if verb in ("keep", "drop") else verb, field)


def verdict(row: tuple[Any, ...]) -> Any:
    """What an edit asks for."""
    return row[1] if row[1] in ("keep", "drop") else row[3]


def lists(*, agree: bool) -> st.SearchStrategy[list[pa.Table]]:
    """Return a strategy of one to four edit lists without contradictions inside a list; agree: nor between lists."""

    def divided(rows: list[tuple[Any, ...]], cuts: list[int]) -> list[pa.Table]:
        said: dict[Any, Any] = {}
        parts: list[list[tuple[Any, ...]]] = [[] for _ in range(4)]
        for row, part in zip(rows, cuts, strict=False):
            key = slot(row) if agree else (part, slot(row))
            if said.setdefault(key, verdict(row)) == verdict(row):
                parts[part].append(row)
        return [edit_list(edits(*part)).table for part in parts if part] or [edits()]

    rows = st.lists(_ROWS, min_size=1, max_size=8)
    cuts = st.lists(st.integers(0, 3), min_size=8, max_size=8)
    return st.builds(divided, rows, cuts)
