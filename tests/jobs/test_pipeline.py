"""What a pipeline knows of its units."""

from __future__ import annotations

from jobs.pipeline import Pipeline, _units, lacked_columns


def test_lacked_columns_are_those_of_all_pages_each_once() -> None:
    assert lacked_columns(Pipeline.nothing()) == []
    units = ((f"{n:06d}.tar", 1, "e", ["b"] if n < 12_000 else ["a", "b"]) for n in range(25_000))
    assert lacked_columns(_units(units)) == ["a", "b"]
