"""A number without meaning in an entry of a recipe is rejected with one line.

Each numeric field of each entry of each table is tried with values that no range should hold. What is accepted has a
meaning that its docstring or its error message documents, and stands in `MEANT`, so that a new field
without a check fails here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from curation.core.errors import TutelageError
from curation.recipes.yaml_document import Where, build_entry
from curation.selectors.schedule import Ramp
from jobs.commands import rooms

ROOMS: dict[str, Mapping[str, type[Any]]] = {room: rooms.table(room) for room in rooms.ROOMS}
TRIED = {
    "nan": math.nan, "inf": math.inf, "-inf": -math.inf, "-1": -1, "0": 0, "-1e300": -1e300, "1e300": 1e300,
    "-10**30": -(10**30), "10**30": 10**30,
}  # fmt: skip
MEANT: dict[tuple[str, str], str] = {
    ("*.seed", "-1"): "a seed is any number of 63 bits",
    ("*.seed", "0"): "a seed is any number of 63 bits",
    ("*.gain", "0"): "draws uniformly: a control",
    ("*.online", "0"): "the online model is not asked, at an end of a ramp not yet",
    ("*.reference", "0"): "the reference is not asked, at an end of a ramp not yet",
    ("caption.min_words", "0"): "no minimum",
    ("caption.min_chars", "0"): "no minimum",
    ("caption.max_repetition", "0"): "no word twice",
    ("decontaminate.distance", "0"): "equal hashes alone",
    ("near_duplicates.distance", "0"): "equal hashes alone",
    ("soft_cap.alpha", "0"): "all large groups equal",
    ("soft_cap_sampling.penalty", "0"): "draws with replacement",
    ("soft_cap_sampling.gain", "-1"): "a lower score is drawn rather, as of a loss",
    **{
        (f"threshold.{field}", label): "a score: any number of float32"
        for field in ("min", "max")
        for label in ("-1", "0", "-10**30", "10**30")
    },
    ("*.lr", "10**30"): "a number of float32, if a bold one",
    ("*.weight_decay", "0"): "none",
    ("*.weight_decay", "10**30"): "a number of float32",
    ("*.eps", "10**30"): "a number of float32",
    ("*.max_norm", "0"): "no limit",
    ("*.max_norm", "10**30"): "a number of float32",
    ("*.betas", "0"): "no momentum",
    ("*.warmup", "0"): "no warm-up",
    ("*.averaging", "0"): "no averages",
    ("*.micro_batch", "0"): "all of the batch at once",
    ("*.scoring_size", "0"): "as in training",
    ("*.reduced", "0"): "no pictures at the scoring size",
}


def numeric(kind: Any) -> bool:
    """Whether a number may stand in a field of this type."""
    return kind in (int, float) or (kind is not bool and any(map(numeric, get_args(kind))))


def example(room: str, name: str, cls: type[Any]) -> dict[str, Any]:
    """The fields of an entry's own example."""
    written = yaml.safe_load(rooms.parts(room, cls)[1].replace("9f2c...", "9f2c" * 16))
    (entry,) = written if isinstance(written, list) else written.values()
    return dict(entry[name] or {})


def cases() -> Iterator[tuple[str, str, str]]:
    for room, table in ROOMS.items():
        for name, cls in table.items():
            kinds = get_type_hints(cls)
            yield from ((room, name, f.name) for f in dataclasses.fields(cls) if numeric(kinds[f.name]))


def given(kind: Any, value: Any) -> Iterator[Any]:
    """The value as it may stand in a field of this type."""
    ramps = Ramp in get_args(kind)
    if any(part is tuple or getattr(part, "__origin__", None) is tuple for part in (kind, *get_args(kind))):
        yield from ([value, 0.9], [0.9, value])
        return
    yield value
    if ramps:
        yield from ({"start": value, "end": 1.0}, {"start": 1.0, "end": value})


@pytest.mark.parametrize(("room", "name", "field"), list(cases()))
def test_a_number_without_meaning_is_refused(room: str, name: str, field: str) -> None:
    table = ROOMS[room]
    fields = example(room, name, table[name])
    kind = get_type_hints(table[name])[field]
    for label, number in TRIED.items():
        for value in given(kind, number):
            case = f"{room}.{name}.{field} = {value}"
            try:
                build_entry({name: {**fields, field: value}}, table, Where("recipe", {}), (), room)
            except TutelageError as error:
                assert "\n" not in str(error) and field in str(error), case
            else:
                assert any((owner, label) in MEANT for owner in (f"{name}.{field}", f"*.{field}")), case


def test_nothing_is_meant_that_is_not_there() -> None:
    there = {f"{name}.{field}" for _, name, field in cases()} | {f"*.{field}" for _, _, field in cases()}
    assert {owner for owner, _ in MEANT} <= there
