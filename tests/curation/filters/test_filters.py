"""The contract of all filters of the table, and what the engine promises for each of them.

Each filter's own file compares it with a definition in plain Python.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest
from brute_cuts import brute_caption, brute_size
from decided_rows import decided_rows
from edits_given import edits, of_lists
from filters_given import ITEMS, dropped
from rows_given import random_rows, table
from sampling import one_in

from curation import filters as filters_room
from curation.core.digest import digest
from curation.core.errors import RecipeError
from curation.curating import decision_results, decisions, groups, sample_pool
from curation.curating.decisions import Decisions
from curation.filters import FILTERS, Filter
from curation.filters.algebra import AllOf, AnyOf, NotOf
from curation.filters.budget import Budget
from curation.filters.caption import Caption
from curation.filters.cluster_balance import ClusterBalance
from curation.filters.decontaminate import Decontaminate
from curation.filters.exact_duplicates import ExactDuplicates
from curation.filters.image_size import ImageSize
from curation.filters.named import NamedFilter, described
from curation.filters.near_duplicates import NearDuplicates
from curation.filters.one_of import OneOf
from curation.filters.origin import Origin
from curation.filters.semantic_duplicates import SemanticDuplicates
from curation.filters.soft_cap import SoftCap
from curation.filters.soft_cap_sampling import SoftCapSampling
from curation.filters.threshold import Threshold
from curation.filters.top_fraction import TopFraction
from curation.ledger.recipe_edits import RecipeEdits
from curation.recipes.entries import TAKEN


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_contract(name: str) -> None:
    """Every entry of the table: a frozen dataclass with a docstring, and an instance satisfies the protocol."""
    cls = FILTERS[name]
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}(")
    compares = [Decontaminate(against=("a",))]  # missing in ITEMS
    item = next(item for item in [*ITEMS, *compares] if type(item) is cls)
    assert isinstance(item, Filter)
    assert item.drops() == item.drops()
    told = digest(described(item))
    later = type(cls.__name__, (cls,), {"code": getattr(cls, "code", 1) + 1})
    assert digest(described(later(**vars(item)))) != told  # the code's version decides, and so does every field
    for field in dataclasses.fields(cls):
        other = object.__new__(cls)
        other.__dict__.update({**vars(item), field.name: "another"})
        assert digest(described(other)) != told, field.name


def goes_by_order(item: Filter) -> bool:
    """Whether the first in source order is what stays."""
    if isinstance(item, AllOf | AnyOf | NotOf):
        return any(map(goes_by_order, item.of))
    return isinstance(item, ExactDuplicates | NearDuplicates | SemanticDuplicates) and item.prefer is None


@pytest.mark.slow
@pytest.mark.parametrize("item", one_in(4, ITEMS, tested=2), ids=repr)
def test_decisions_do_not_depend_on_how_rows_arrive(item: Filter, tmp_path: Path) -> None:
    """In one unit or in many, and, for those that don't go by the order, in any order."""
    rows = random_rows(300, seed=5)
    whole = dropped(tmp_path, rows, item)
    if not (isinstance(item, Budget) and item.bytes):  # every unit may end a shard, which takes room
        assert dropped(tmp_path, rows, item, sizes=(1, 0, 120, 179)) == whole
    if not goes_by_order(item):
        shuffled = [rows[i] for i in np.random.default_rng(0).permutation(300)]
        again = dropped(tmp_path, shuffled, item)
        assert {shuffled[i]["uid"]: reason for i, reason in again.items()} == {
            rows[i]["uid"]: reason for i, reason in whole.items()
        }


def test_the_first_filter_that_drops_names_the_reason(tmp_path: Path) -> None:
    rows = random_rows(200, 1)
    size, words = ImageSize(min_side=150), Caption(min_words=3)
    first = dropped(tmp_path, rows, size, words)
    both = brute_size(size, rows) & brute_caption(words, rows)
    assert both
    assert all(first[i] == "image_size.min_side" for i in both if not rows[i]["reason"])


def test_lists_override(tmp_path: Path) -> None:
    rows = random_rows(100, 3)
    good = [i for i, row in enumerate(rows) if not row["reason"]]
    bad = next(i for i, row in enumerate(rows) if row["reason"])
    keep = pa.array([rows[good[0]]["uid"], rows[bad]["uid"]])
    drop = pa.array([rows[good[1]]["uid"], "f" * 32])
    found = dropped(tmp_path, rows, Threshold(score="score", min=9.0), edits=of_lists(keep, drop))
    assert good[0] not in found
    assert found[good[1]] == "drop_list"
    assert found[bad] == "image_corrupt"  # no list makes an unreadable image readable
    assert Counter(found.values())["threshold.score"] == len(good) - 2


def test_settings_that_the_engine_cannot_compute_with_are_one_line(tmp_path: Path) -> None:
    settings = [(Budget(samples=1, score="score"), "samples"), (ClusterBalance(column="cluster", most=1), "most")]
    for item, name in settings:
        with pytest.raises(ValueError, match="at most"):
            dataclasses.replace(item, **{name: 10**42})
        object.__setattr__(item, name, 10**42)  # as of a package's filter that checks nothing
        with pytest.raises(RecipeError, match="can't compute with its settings and columns"):
            dropped(tmp_path, random_rows(5, 9), item)


ENGINE = (sample_pool, decisions, decision_results, groups)


def named_in(paths: Iterable[Path]) -> list[str]:
    """What the queries in these files and the engine's call anything, and tables' columns that they make otherwise."""
    code = "".join(path.read_text() for path in (*paths, *map(source_of, ENGINE)))
    of_edits = {"verb", "field", "value", "by"}
    names = {
        *of_edits,
        *re.findall(r"\bAS (\w+)", code),
        "cluster",
        "similarity",
        "h",
        "a",
        "b",
        "t",
        "x",
        "how",
        "filter",
    } | {
        "verb",
        "field",
        "value",
        "by",
    }
    return sorted({name.lower() for name in names} - TAKEN)


def source_of(module: ModuleType) -> Path:
    return Path(str(module.__file__))


def sources(item: Filter) -> set[Path]:
    """The files of the room that a filter's query comes from: its own, and those which that imports."""
    left, found = [type(item).__module__], set[Path]()
    while left:
        path = source_of(sys.modules[left.pop()])
        if path not in found:
            found.add(path)
            left += re.findall(r"^from (curation\.filters\.\w+) import", path.read_text(), re.MULTILINE)
    return found


#: The names in the queries of all filters.
HOSTILE = named_in(source_of(filters_room).parent.glob("*.py"))


DECONTAMINATE = [Decontaminate(against=("a",), hash="phash", embedding="embedding")]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decisions]:
    """An engine whose scores have all those names; they are `score` but for the name."""
    rows = table([{**row, "reason": None} for row in random_rows(150, 14)]).drop_columns(["cluster"])
    for name in HOSTILE:
        rows = rows.append_column(name, rows.column("score"))
    kinds = dict.fromkeys(["score", *HOSTILE], pa.float32()) | {"phash": pa.int64()}
    index = ["caption", "width", "height", "content_hash", "length", "format", "origin"]
    with Decisions(tmp_path_factory.mktemp("hostile"), index, kinds, ["embedding"]) as engine:
        engine.load([(0, rows)])
        yield engine


def decided(engine: Decisions, item: Filter) -> set[int]:
    engine.clear()
    if isinstance(item, Decontaminate):
        engine.load_others(item.compared_table(), item.compared_columns(), [])
    engine.decide([NamedFilter("f", item)])
    decision_results.matches(engine).read_all()
    return {row["row"] for row in decided_rows(engine, 0, 0).to_pylist() if row["decision"] != "kept"}


@pytest.mark.parametrize(
    "item", one_in(4, [*DECONTAMINATE, *(i for i in ITEMS if "cluster" not in i.columns())], tested=2), ids=repr
)
def test_scores_may_be_called_as_anything_in_a_filters_query(item: Filter, hostile: Decisions, tmp_path: Path) -> None:
    rows = [{**row, "reason": None} for row in random_rows(150, 14)]
    found = decided(hostile, item)
    assert found == (set() if item in DECONTAMINATE else set(dropped(tmp_path, rows, item)))


def test_edits_of_samples_whose_scores_are_called_as_anything(hostile: Decisions) -> None:
    rows = random_rows(150, 14)
    real = [row["uid"] for row in rows if row["origin"] is None][:4]
    replaced = [(real[0], "replace", "caption", '"a cat"'), (real[1], "replace", "label", "1")]
    hostile.clear()
    hostile.decide(
        [NamedFilter("origin", Origin())],
        RecipeEdits(edits(*replaced, (real[2], "drop"), (real[3], "weight", None, "2"), ("f" * 32, "keep"))),
    )
    found = {row["row"]: row for row in decided_rows(hostile, 0, 0).to_pylist()}
    of = {row["uid"]: found[place] for place, row in enumerate(rows)}
    assert [of[uid]["reason"] for uid in real] == ["origin.captioned", None, "drop_list", None]
    assert of[real[3]]["weight"] == 2
    assert decision_results.unknown_uids(hostile) == (1, "f" * 32)
    made = decision_results.replaced(hostile).to_pylist()
    assert {row["field"]: rows[row["row"]]["uid"] for row in made} == {"caption": real[0], "label": real[1]}


READERS = [
    TopFraction(score="score", fraction=0.3),
    Threshold(score="score", min=0.25, max=0.75),
    Budget(samples=40, score="score"),
    Budget(bytes=100_000, score="score"),
    ClusterBalance(column="score", most=3, prefer="score"),
    SoftCap(column="score", cap=3),
    SoftCapSampling(score="score", draws=20),
    ExactDuplicates(prefer="score"),
    NearDuplicates(prefer="score"),
    SemanticDuplicates(clusters=1, threshold=0.9, prefer="score"),
    OneOf(column="score", values=("0.5",)),
]


@pytest.mark.slow
@pytest.mark.parametrize("item", READERS, ids=repr)
def test_a_filter_reads_a_score_whatever_it_is_called(item: Filter, hostile: Decisions) -> None:
    """Every name that its query gives to anything. Chance goes by the column's name; there it is enough to run."""
    wanted, names = decided(hostile, item), named_in(sources(item))
    assert len(names) >= 15 and set(names) <= set(HOSTILE)
    for name in names:
        fields = {field: name if value == "score" else value for field, value in vars(item).items()}
        found = decided(hostile, type(item)(**fields))
        if not isinstance(item, SoftCap | SoftCapSampling):
            assert found == wanted, name
