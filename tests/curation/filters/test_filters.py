"""Every filter against a brute-force definition in plain Python, on random tables with ties and repeats."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import torch
from brute_balancing import brute_cluster, brute_mentions, brute_metaclip, brute_soft_cap, brute_soft_cap_sampling
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rows_given import Row, alike, random_rows, table, unit

from curation import filters as filters_room
from curation.core.digest import digest
from curation.core.errors import RecipeError
from curation.curating import decisions
from curation.curating.decisions import Decisions
from curation.filters import FILTERS, Filter
from curation.filters.algebra import AllOf, AnyOf, NotOf
from curation.filters.boilerplate import Boilerplate
from curation.filters.budget import Budget
from curation.filters.caption import Caption
from curation.filters.cluster_balance import ClusterBalance
from curation.filters.decontaminate import Decontaminate
from curation.filters.exact_duplicates import ExactDuplicates
from curation.filters.image_size import ImageSize
from curation.filters.mentions import Mentions
from curation.filters.metaclip_balance import MetaclipBalance
from curation.filters.named import NamedFilter, columns_needed, described
from curation.filters.near_duplicates import NearDuplicates
from curation.filters.one_of import OneOf
from curation.filters.semantic_duplicates import BLOCK, KeptVectors, SemanticDuplicates
from curation.filters.soft_cap import SoftCap
from curation.filters.soft_cap_sampling import SoftCapSampling
from curation.filters.threshold import Threshold
from curation.filters.top_fraction import TopFraction
from curation.recipes.curation_recipe import TAKEN


def dropped(
    tmp: Path, rows: list[Row], *filters: Filter, sizes: tuple[int, ...] = (), **lists: pa.Array
) -> dict[int, str | None]:
    """row -> reason of every row that isn't kept; of rows that come in units of these sizes, or in one."""
    named = [NamedFilter(kind(item), item) for item in filters]
    index, scores = columns_needed(named)
    wanted = ["row", "uid", "reason", *index, *scores]
    known = {"phash": pa.int64(), "cluster": pa.int32()}
    kinds = {name: known.get(name, pa.float32()) for name in scores if name != "embedding"}
    ends = np.cumsum(sizes or (len(rows),)).tolist()
    with Decisions(tmp, index, kinds, [name for name in scores if name not in kinds]) as engine:
        whole = table(rows).select(wanted)
        for unit, (start, end) in enumerate(pairwise([0, *ends])):
            engine.load([(unit, whole.slice(start, end - start))])
        engine.decide(named, **lists)
        result = engine.of_units(0, len(ends)).to_pylist()
    assert [r["row"] for r in result] == list(range(len(rows)))
    return {r["row"]: r["reason"] for r in result if r["decision"] != "kept"}


def kind(item: Filter) -> str:
    return next(name for name, cls in FILTERS.items() if type(item) is cls)


def words_of(caption: str) -> list[str]:
    out: list[str] = []
    for piece in caption.lower().split():
        run = ""
        for char in piece:
            if "一" <= char <= "鿿":
                out += [run] * bool(run) + [char]
                run = ""
            else:
                run += char
        out += [run] * bool(run)
    return out


def brute_caption(item: Caption, rows: list[Row]) -> set[int]:
    out = set()
    for i, row in enumerate(rows):
        words = words_of(row["caption"])
        bad = len(words) < item.min_words or len(row["caption"].strip()) < item.min_chars
        bad |= item.max_words is not None and len(words) > item.max_words
        bad |= item.max_chars is not None and len(row["caption"].strip()) > item.max_chars
        if words and item.max_repetition is not None:
            bad |= 1 - len(set(words)) / len(words) > item.max_repetition
        if bad:
            out.add(i)
    return out


def brute_top(item: TopFraction, rows: list[Row]) -> set[int]:
    alive = [i for i, row in enumerate(rows) if row["reason"] is None]
    keep = int(Fraction(str(item.fraction)) * len(alive) + Fraction(1, 2))
    ranked = sorted(alive, key=lambda i: (-rows[i]["score"], rows[i]["uid"]))
    return set(ranked[keep:])


def brute_duplicates(item: ExactDuplicates, rows: list[Row]) -> set[int]:
    alive = [i for i, row in enumerate(rows) if row["reason"] is None]
    if item.prefer:
        alive.sort(key=lambda i: (-rows[i]["score"], rows[i]["uid"]))
    seen: set[Any] = set()
    out = set()
    for i in alive:
        key = (rows[i]["content_hash"], rows[i]["caption"] if item.of == "pair" else None)
        if key in seen:
            out.add(i)
        seen.add(key)
    return out


def brute_size(item: ImageSize, rows: list[Row]) -> set[int]:
    def bad(row: Row) -> bool:
        short, long = sorted((row["width"], row["height"]))
        return short < item.min_side or (item.max_aspect is not None and long > item.max_aspect * short)

    return {i for i, row in enumerate(rows) if bad(row)}


def brute_threshold(item: Threshold, rows: list[Row]) -> set[int]:
    low = -np.inf if item.min is None else np.float32(item.min)
    high = np.inf if item.max is None else np.float32(item.max)
    return {i for i, row in enumerate(rows) if not low <= np.float32(row["score"]) <= high}


def brute_boilerplate(item: Boilerplate, rows: list[Row]) -> set[int]:
    told = {i: " ".join(row["caption"].lower().split()) for i, row in enumerate(rows) if row["reason"] is None}
    often = Counter(told.values())
    return {i for i, words in told.items() if words and often[words] > item.most}


def brute_budget(item: Budget, rows: list[Row]) -> set[int]:
    alive = [i for i, row in enumerate(rows) if row["reason"] is None]
    alive.sort(key=lambda i: (-rows[i]["score"] if item.score else 0, rows[i]["uid"]))
    out, spent = set(), 1024 if item.bytes is not None else 0  # the end of the one shard
    for i in alive:
        spent += rows[i]["length"] if item.bytes is not None else 1
        if spent > (item.bytes or item.samples or 0):
            out.add(i)
    return out


def brute_one_of(item: OneOf, rows: list[Row]) -> set[int]:
    return {i for i, row in enumerate(rows) if (row["format"] in item.values) != item.keep}


def brute_of(item: Any, rows: list[Row]) -> set[int]:
    brutes = {Threshold: brute_threshold, TopFraction: brute_top, ImageSize: brute_size}
    dropped = [brutes[type(part)](part, rows) for part in item.of]
    everything = {i for i, row in enumerate(rows) if row["reason"] is None}
    if isinstance(item, AnyOf):
        return set.intersection(*dropped)
    return set.union(*dropped) if isinstance(item, AllOf) else everything - set.union(*dropped)


def copies(one: Row, other: Row, distance: int) -> bool:
    """As `near_duplicates` sees it: a blank picture is like its own bytes only."""
    blank = not one["phash"] and not other["phash"]
    return one["content_hash"] == other["content_hash"] if blank else alike(one, other, distance)


def brute_near(item: NearDuplicates, rows: list[Row]) -> set[int]:
    alive = [i for i, row in enumerate(rows) if row["reason"] is None]
    if item.prefer:
        alive.sort(key=lambda i: (-rows[i]["score"], rows[i]["uid"]))
    stay: list[int] = []
    for i in alive:
        if not any(copies(rows[i], rows[j], item.distance) for j in stay):
            stay.append(i)
    return set(alive) - set(stay)


def leave(vectors: torch.Tensor, threshold: float, chains: bool = False) -> np.ndarray[Any, Any]:
    stays = KeptVectors(threshold, chains)
    ids = np.arange(len(vectors)).reshape(-1)
    blocks = zip(np.split(ids, range(BLOCK, len(ids), BLOCK)), vectors.split(BLOCK), strict=True)
    return np.concatenate([stays.leave_for(some, block) for some, block in blocks]) >= 0


def brute_semantic(item: SemanticDuplicates, rows: list[Row]) -> set[int]:
    """With one cluster. In order, all leave that are similar to one that stays."""
    alive = [i for i, row in enumerate(rows) if row["reason"] is None]
    if item.prefer:
        alive.sort(key=lambda i: (-rows[i]["score"], rows[i]["uid"]))
    wide = {i: rows[i]["embedding"].astype(np.float32) for i in alive}
    of = {i: vector / np.linalg.norm(vector) for i, vector in wide.items()}
    stay: list[int] = []
    for i in alive:
        if not any(of[i] @ of[j] >= item.threshold for j in stay):
            stay.append(i)
    return set(alive) - set(stay)


WORDS = ("red", "apple", "red apple", "apple red apple", "café", "Red", "sale sale", "日本", "apple  red", "absent")
PARTS = (TopFraction(score="score", fraction=0.4), ImageSize(min_side=100), Threshold(score="score", min=0.2))

CASES: list[tuple[Filter, Callable[..., set[int]]]] = [
    (Caption(min_words=2), brute_caption),
    (Caption(min_words=1, max_words=3, min_chars=3, max_chars=12, max_repetition=0.4), brute_caption),
    (TopFraction(score="score", fraction=0.3), brute_top),
    (TopFraction(score="score", fraction=0.29), brute_top),
    (TopFraction(score="score", fraction=1.0), brute_top),
    (TopFraction(score="score", fraction=0.001), brute_top),
    (ExactDuplicates(), brute_duplicates),
    (ExactDuplicates(of="pair"), brute_duplicates),
    (ExactDuplicates(prefer="score"), brute_duplicates),
    (ImageSize(min_side=64), brute_size),
    (ImageSize(min_side=10, max_aspect=1.5), brute_size),
    (Threshold(score="score", min=0.3), brute_threshold),
    (Threshold(score="score", min=0.25, max=0.75), brute_threshold),
    (Boilerplate(most=3), brute_boilerplate),
    (Boilerplate(most=1), brute_boilerplate),
    (Budget(samples=40), brute_budget),
    (Budget(samples=40, score="score"), brute_budget),
    (Budget(bytes=100_000, score="score"), brute_budget),
    (NearDuplicates(), brute_near),
    (NearDuplicates(distance=0), brute_near),
    (NearDuplicates(distance=7, prefer="score"), brute_near),
    (SemanticDuplicates(clusters=1, threshold=0.9), brute_semantic),
    (SemanticDuplicates(clusters=1, threshold=0.8, prefer="score"), brute_semantic),
    (ClusterBalance(column="cluster", most=20), brute_cluster),
    (ClusterBalance(column="cluster", most=3, prefer="score"), brute_cluster),
    (ClusterBalance(column="format", most=9, seed=5), brute_cluster),
    (SoftCap(column="cluster", cap=10), brute_soft_cap),
    (SoftCap(column="format", cap=2, alpha=0, weights=False, seed=1), brute_soft_cap),
    (SoftCapSampling(score="score"), brute_soft_cap_sampling),
    (SoftCapSampling(score="score", draws=30, gain=5, penalty=0.5, seed=4), brute_soft_cap_sampling),
    (Mentions(entries=WORDS[2:]), brute_mentions),
    (Mentions(entries=WORDS, ignore_case=False), brute_mentions),
    (MetaclipBalance(entries=WORDS, t=20), brute_metaclip),
    (MetaclipBalance(entries=WORDS, t=1, ignore_case=True, seed=3), brute_metaclip),
    (MetaclipBalance(entries=("absent",), t=1), brute_metaclip),
    (OneOf(column="format", values=("png", "jpeg")), brute_one_of),
    (OneOf(column="format", values=("png", "it's"), keep=False), brute_one_of),
    (AllOf(of=PARTS), brute_of),
    (AnyOf(of=PARTS), brute_of),
    (AnyOf(of=PARTS[:1]), brute_of),
    (NotOf(of=PARTS[:2]), brute_of),
]


@pytest.mark.parametrize(("item", "brute"), CASES, ids=lambda value: repr(value) if not callable(value) else "")
@pytest.mark.parametrize("n", [0, 1, 2, 100, 997])
def test_equals_brute_force(item: Filter, brute: Callable[..., set[int]], n: int, tmp_path: Path) -> None:
    rows = random_rows(n, seed=n)
    quarantined = {i for i, row in enumerate(rows) if row["reason"]}
    found = dropped(tmp_path, rows, item)
    assert set(found) - quarantined == brute(item, rows) - quarantined
    name = kind(item)
    assert all(
        reason == name or (reason or "").startswith(f"{name}.") for i, reason in found.items() if i not in quarantined
    )


DUPLICATES = [(item, brute) for item, brute in CASES if isinstance(item, ExactDuplicates | NearDuplicates)]


@pytest.mark.parametrize(("item", "brute"), DUPLICATES, ids=lambda value: repr(value) if not callable(value) else "")
@pytest.mark.parametrize("n", [0, 1, 300])
def test_duplicates_are_the_same_where_values_do_not_fit_in_memory(
    item: Filter, brute: Callable[..., set[int]], n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.filters.repeats.IN_MEMORY", -1)
    test_equals_brute_force(item, brute, n, tmp_path)


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("item", [ExactDuplicates(), ExactDuplicates(of="pair", prefer="score")])
def test_samples_whose_hashes_collide_are_no_duplicates(
    item: ExactDuplicates, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.filters.repeats.IN_MEMORY", 1000 if fits else -1)
    monkeypatch.setattr("curation.filters.exact_duplicates._hash", lambda *names: f"(hash({', '.join(names)}) % 3)")
    test_equals_brute_force(item, brute_duplicates, 400, tmp_path)


def test_samples_without_a_caption_are_no_equal_pairs(tmp_path: Path) -> None:
    rows = [{**row, "caption": None, "content_hash": "same", "reason": None} for row in random_rows(9, 10)]
    assert dropped(tmp_path, rows, ExactDuplicates(of="pair")) == {}
    assert set(dropped(tmp_path, rows, ExactDuplicates())) == set(range(1, 9))


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_contract(name: str) -> None:
    """Every entry of the table: a frozen dataclass with a docstring, and an instance satisfies the protocol."""
    cls = FILTERS[name]
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}(")
    compares = [Decontaminate(against=("a",))]  # whose tests are beside these
    item = next(item for item in [*(item for item, _ in CASES), *compares] if type(item) is cls)
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


def test_limits_of_whole_numbers_are_what_they_are(tmp_path: Path) -> None:
    rows = [{**row, "reason": None, "length": 16_777_216 + i} for i, row in enumerate(random_rows(4, 1))]
    assert set(dropped(tmp_path, rows, Threshold(score="length", min=16_777_217))) == {0}
    assert set(dropped(tmp_path, rows, Threshold(score="length", max=16_777_217))) == {2, 3}


def test_a_limit_that_was_read_off_a_float32_score_means_that_score(tmp_path: Path) -> None:
    rows = [{**row, "reason": None, "score": np.float32(0.1)} for row in random_rows(3, 1)]
    assert not dropped(tmp_path, rows, Threshold(score="score", min=0.1))
    assert not dropped(tmp_path, rows, Threshold(score="score", max=0.1))


def test_characters_are_counted_without_white_space_of_any_kind_around(tmp_path: Path) -> None:
    captions = ["a b c\t\t\t", "\u3000a b c  ", "a b c d"]
    rows = [
        {**row, "reason": None, "caption": caption} for row, caption in zip(random_rows(3, 1), captions, strict=True)
    ]
    assert set(dropped(tmp_path, rows, Caption(min_chars=6))) == {0, 1}


@pytest.mark.parametrize("item", [item for item, _ in CASES], ids=repr)
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


def test_top_fraction_counts_those_that_reach_it(tmp_path: Path) -> None:
    rows = [{**row, "reason": None} for row in random_rows(300, 2)]
    found = dropped(tmp_path, rows, ImageSize(min_side=100), TopFraction(score="score", fraction=0.5))
    reached = 300 - sum(reason == "image_size.min_side" for reason in found.values())
    assert 300 - len(found) == (reached + 1) // 2


def test_lists_override(tmp_path: Path) -> None:
    rows = random_rows(100, 3)
    good = [i for i, row in enumerate(rows) if not row["reason"]]
    bad = next(i for i, row in enumerate(rows) if row["reason"])
    keep = pa.array([rows[good[0]]["uid"], rows[bad]["uid"]])
    drop = pa.array([rows[good[1]]["uid"], "f" * 32])
    found = dropped(tmp_path, rows, Threshold(score="score", min=9.0), keep=keep, drop=drop)
    assert good[0] not in found
    assert found[good[1]] == "drop_list"
    assert found[bad] == "image_corrupt"  # no list makes an unreadable image readable
    assert Counter(found.values())["threshold.score"] == len(good) - 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), None])
def test_a_score_that_is_no_number_is_quarantined(value: float | None, tmp_path: Path) -> None:
    rows = [{**row, "reason": None} for row in random_rows(20, 4)]
    rows[7]["score"] = value
    assert dropped(tmp_path, rows, TopFraction(score="score", fraction=1.0)) == {7: "score_not_finite"}


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([0.0, 0.5, -0.25, 1.0]), max_size=60), st.integers(1, 1000))
def test_top_fraction_is_exact_for_any_ties(tmp_path: Path, values: list[float], thousandths: int) -> None:
    rows = [{**row, "score": v, "reason": None} for row, v in zip(random_rows(len(values), 5), values, strict=True)]
    item = TopFraction(score="score", fraction=thousandths / 1000)
    assert set(dropped(tmp_path, rows, item)) == brute_top(item, rows)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: TopFraction(score="s", fraction=0),
        lambda: TopFraction(score="s", fraction=1.5),
        lambda: TopFraction(score="s", fraction=1e-40),
        lambda: Threshold(score="s"),
        lambda: Threshold(score="s", min=1e39),
        lambda: Threshold(score="s", max=float("nan")),
        lambda: Threshold(score="s", min=5, max=1),
        lambda: ImageSize(max_aspect=0.5),
        lambda: ImageSize(max_aspect=float("nan")),
        lambda: ImageSize(max_aspect=float("inf")),
        lambda: Caption(max_repetition=2),
        lambda: Boilerplate(most=0),
        lambda: NearDuplicates(distance=13),
        lambda: Decontaminate(against=()),
        lambda: Decontaminate(against=("a",), distance=13),
        lambda: SemanticDuplicates(threshold=0),
        lambda: SemanticDuplicates(clusters=0),
        lambda: SemanticDuplicates(keep="hard", prefer="score"),
        lambda: Budget(),
        lambda: Budget(samples=1, bytes=1),
        lambda: Budget(samples=0),
        lambda: OneOf(column="format", values=()),
        lambda: OneOf(column="format", values=("jpg",)),
        lambda: Caption(min_words=3, max_words=2),
        lambda: AllOf(of=()),
        lambda: AnyOf(of=(SoftCap(column="cluster", cap=1),)),
        lambda: ClusterBalance(column="cluster", most=0),
        lambda: SoftCap(column="cluster", cap=0),
        lambda: SoftCap(column="cluster", cap=1, alpha=1),
        lambda: SoftCapSampling(score="s", draws=0),
        lambda: SoftCapSampling(score="s", gain=float("nan")),
        lambda: SoftCapSampling(score="s", gain=-1e7),
        lambda: SoftCapSampling(score="s", penalty=-0.1),
        lambda: SoftCapSampling(score="s", penalty=float("inf")),
        lambda: AnyOf(of=(SoftCapSampling(score="s"),)),
        lambda: Mentions(),
        lambda: Mentions(entries=("", " ")),
        lambda: Mentions(entries=("a",), url="list.txt", sha256="0" * 64),
        lambda: Mentions(url="list.txt"),
        lambda: MetaclipBalance(entries=("a",), t=0),
    ],
)
def test_senseless_settings_are_refused(bad: Callable[[], Filter]) -> None:
    with pytest.raises(ValueError):
        bad()


@pytest.mark.parametrize("keep", ["first", "hard", "easy"])
def test_copies_are_in_one_cluster_however_many_there_are(keep: Any, tmp_path: Path) -> None:
    """Of 60 groups of equal vectors one of each stays; more stay only of groups of vectors that are merely near."""
    rows = [{**row, "reason": None} for row in random_rows(60, 6)]
    rng = np.random.default_rng(0)
    copies = [{**rows[i], "uid": f"{rng.integers(0, 2**62):032x}"} for i in rng.integers(0, 60, 400)]
    found = dropped(tmp_path, rows + copies, SemanticDuplicates(clusters=9, threshold=0.999, keep=keep))
    stay = [row for i, row in enumerate(rows + copies) if i not in found]
    assert len(stay) == len({row["embedding"].tobytes() for row in rows})
    again = dropped(tmp_path, rows + copies, SemanticDuplicates(clusters=9, threshold=0.999, keep=keep))
    assert again == found


def test_of_the_samples_near_a_centre_hard_keeps_the_far_and_easy_the_near_one(tmp_path: Path) -> None:
    one, spread = np.eye(8)[0], 0.05 * np.eye(8)[1]
    rows = [{**row, "reason": None} for row in random_rows(9, 7)]
    for i, row in enumerate(rows):
        row["embedding"] = unit(one + (i - 4) * spread)
    stay = {
        keep: set(range(9)) - set(dropped(tmp_path, rows, SemanticDuplicates(clusters=1, threshold=0.9, keep=keep)))
        for keep in ("hard", "easy")
    }
    assert stay["easy"] == {4}
    assert stay["hard"] <= {0, 8} and stay["hard"]


@pytest.mark.parametrize("chains", [False, True])
def test_a_cluster_larger_than_a_block_is_looked_at_block_by_block(
    chains: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However its rows arrive: as one by one, where no more than a block is brought together."""
    rows = [{**row, "reason": None} for row in random_rows(300, 12)]
    items = [SemanticDuplicates(clusters=c, threshold=0.9, chains=chains) for c in (1, 7)]
    whole = [dropped(tmp_path, rows, item) for item in items]
    sizes = []
    leave_for = KeptVectors.leave_for

    def leave(self: KeptVectors, ids: Any, block: torch.Tensor) -> Any:
        sizes.append(len(block))
        assert all(len(held) <= 16 for held, _ in self.held)
        return leave_for(self, ids, block)

    monkeypatch.setattr(KeptVectors, "leave_for", leave)
    monkeypatch.setattr("curation.filters.semantic_duplicates.BLOCK", 16)
    monkeypatch.setattr("curation.filters.semantic_duplicates.IDS", 9)
    monkeypatch.setattr("curation.filters.vectors.ROWS", 11)
    assert [dropped(tmp_path, rows, item) for item in items] == whole
    assert max(sizes) == 16 and sum(sizes) == 2 * len(rows)
    if not chains:
        assert set(whole[0]) == brute_semantic(items[0], rows)


def test_the_sample_for_centres_is_drawn_by_seed_and_uid_and_no_larger_than_asked_for() -> None:
    """After a budget, too, which without a score leaves the smallest uids."""
    rows = [{**row, "uid": f"{n:032x}"} for n, row in enumerate(random_rows(3000, 13))]
    given = table(rows).select(["uid", "embedding"])
    shuffled = given.take(pa.array(np.random.default_rng(0).permutation(3000)))

    def sample(seed: int, alive: pa.Table, clusters: int) -> torch.Tensor:
        with duckdb.connect() as db:
            db.register("given", alive)
            db.execute("CREATE TABLE alive AS FROM given")
            return SemanticDuplicates(seed=seed)._sample(db, clusters, len(alive))

    assert len(sample(0, given, 20)) == 640 and len(sample(0, given, 1)) == 100
    assert len(sample(0, given.slice(0, 50), 1)) == 50
    assert torch.equal(sample(0, given, 20), sample(0, shuffled, 20))
    assert torch.equal(sample(0, given, 1), sample(0, given, 20)[:100])
    assert not torch.equal(sample(0, given, 20), sample(1, given, 20))


def test_a_chain_leaves_every_second_of_its_links() -> None:
    """0 drops 1, which is gone when 2 is looked at; the published code would drop 2 as well."""
    angles = torch.arange(7) * 0.1
    vectors = torch.stack([angles.cos(), angles.sin()], 1)
    assert leave(vectors, float(np.cos(0.15))).tolist() == [False, True, False, True, False, True, False]
    many = torch.cat([vectors] * 400)  # more than are compared at once
    assert (~leave(many, float(np.cos(0.15)))).sum() == 4


@pytest.mark.parametrize("block", [7, 64, 1000])
def test_what_leaves_names_the_first_that_stays_and_is_like_it(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With chains, the one that the whole chain leaves for; so of every group one stays."""
    rng = np.random.default_rng(5)
    vectors = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(500, 3))).float(), dim=-1)
    like = (vectors @ vectors.T >= np.float32(0.97)).numpy()
    ids = rng.permutation(10_000)[:500]
    monkeypatch.setattr("curation.filters.semantic_duplicates.BLOCK", 64)
    found = {}
    for chains in (False, True):
        stays = KeptVectors(0.97, chains)
        parts = zip(np.split(ids, range(block, 500, block)), vectors.split(block), strict=True)
        found[chains] = np.concatenate([stays.leave_for(some, part) for some, part in parts])
        assert set(found[chains][found[chains] >= 0]) <= set(ids[found[chains] < 0]), "what others leave for stays"
    left = found[False] >= 0
    for row in np.flatnonzero(left):
        assert found[False][row] == ids[next(n for n in range(row) if like[row, n] and not left[n])]
    for row in np.flatnonzero(found[True] >= 0):
        before = next(n for n in range(row) if like[row, n])
        assert found[True][row] == (ids[before] if found[True][before] < 0 else found[True][before])


def test_with_chains_it_leaves_what_the_published_code_leaves() -> None:
    """There the largest cosine to any item before it decides, whether that stays or not."""
    rng = np.random.default_rng(3)
    vectors = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(3000, 3))).float(), dim=-1)
    published = (vectors @ vectors.T).tril(-1).amax(1).numpy() >= np.float32(0.999)
    assert leave(vectors, 0.999, chains=True).tolist() == published.tolist()
    assert leave(vectors, 0.999).sum() < published.sum()


def test_two_of_a_kind_in_one_filter_do_not_share_what_they_prepare(tmp_path: Path) -> None:
    rows = [{**row, "reason": None} for row in random_rows(200, 11)]
    some = [SemanticDuplicates(clusters=1, threshold=0.8), SemanticDuplicates(clusters=1, threshold=0.9999)]
    alone = [set(dropped(tmp_path, rows, item)) for item in some]
    assert alone[0] > alone[1]
    assert set(dropped(tmp_path, rows, AnyOf(of=tuple(some)))) == alone[1]
    assert set(dropped(tmp_path, rows, AllOf(of=tuple(some)))) == alone[0]


def test_vectors_that_are_no_numbers_are_quarantined(tmp_path: Path) -> None:
    rows = [{**row, "reason": None} for row in random_rows(20, 8)]
    rows[3]["embedding"] = np.full(8, np.nan, np.float16)
    found = dropped(tmp_path, rows, SemanticDuplicates(clusters=2, threshold=1.0))
    assert {i for i, reason in found.items() if reason == "score_not_finite"} == {3}


def test_a_column_of_another_kind_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="filter near_duplicates can't read its columns"):
        dropped(tmp_path, random_rows(5, 9), NearDuplicates(hash="score"))


def test_settings_that_the_engine_cannot_compute_with_are_one_line(tmp_path: Path) -> None:
    settings = [(Budget(samples=1, score="score"), "samples"), (ClusterBalance(column="cluster", most=1), "most")]
    for item, name in settings:
        with pytest.raises(ValueError, match="at most"):
            dataclasses.replace(item, **{name: 10**42})
        object.__setattr__(item, name, 10**42)  # as of a package's filter that checks nothing
        with pytest.raises(RecipeError, match="can't compute with its settings and columns"):
            dropped(tmp_path, random_rows(5, 9), item)


def test_too_little_memory_is_one_line_that_says_so(tmp_path: Path) -> None:
    rows = [(n, f"{n:032x}", None, "a b " * 9999) for n in range(60)]
    columns = dict(zip(("row", "uid", "reason", "caption"), map(list, zip(*rows, strict=True)), strict=True))
    given = pa.table({**columns, "row": pa.array(columns["row"], pa.int32()), "reason": pa.nulls(60, pa.string())})
    with Decisions(tmp_path, ["caption"], {}, memory="20MB") as engine:
        engine.load([(0, given)])
        with pytest.raises(RecipeError, match=r"filter b needs more memory than compute\.memory, 20MB"):
            engine.decide([NamedFilter("b", MetaclipBalance(entries=("a b",), t=1))])


CODE = "".join(
    file.read_text() for file in (*Path(filters_room.__file__).parent.glob("*.py"), Path(decisions.__file__))
)
NAMES = set(re.findall(r"\bAS (\w+)", CODE)) | {"cluster", "similarity", "h", "a", "b", "t", "x", "how", "filter"}
#: What the queries of filters and engine call anything, and tables' columns that they make otherwise.
HOSTILE = sorted({name.lower() for name in NAMES} - TAKEN)
DECONTAMINATE = [Decontaminate(against=("a",), hash="phash", embedding="embedding")]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decisions]:
    """An engine whose scores have all those names; they are `score` but for the name."""
    rows = table([{**row, "reason": None} for row in random_rows(150, 14)]).drop_columns(["cluster"])
    for name in HOSTILE:
        rows = rows.append_column(name, rows.column("score"))
    kinds = dict.fromkeys(["score", *HOSTILE], pa.float32()) | {"phash": pa.int64()}
    index = ["caption", "width", "height", "content_hash", "length", "format"]
    with Decisions(tmp_path_factory.mktemp("hostile"), index, kinds, ["embedding"]) as engine:
        engine.load([(0, rows)])
        yield engine


def decided(engine: Decisions, item: Filter) -> set[int]:
    engine.clear()
    if isinstance(item, Decontaminate):
        engine.load_others(item.others(), item.compared(), [])
    engine.decide([NamedFilter("f", item)])
    engine.matches().read_all()
    return {row["row"] for row in engine.of_units(0, 0).to_pylist() if row["decision"] != "kept"}


@pytest.mark.parametrize("item", [*(i for i, _ in CASES if "cluster" not in i.columns()), *DECONTAMINATE], ids=repr)
def test_scores_may_be_called_as_anything_in_a_filters_query(item: Filter, hostile: Decisions, tmp_path: Path) -> None:
    rows = [{**row, "reason": None} for row in random_rows(150, 14)]
    found = decided(hostile, item)
    assert found == (set() if item in DECONTAMINATE else set(dropped(tmp_path, rows, item)))


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


@pytest.mark.parametrize("item", READERS, ids=repr)
def test_a_filter_reads_a_score_whatever_it_is_called(item: Filter, hostile: Decisions) -> None:
    """Every name that the query gives to anything. Chance goes by the column's name; there it is enough to run."""
    wanted = decided(hostile, item)
    for name in HOSTILE:
        fields = {field: name if value == "score" else value for field, value in vars(item).items()}
        found = decided(hostile, type(item)(**fields))
        if not isinstance(item, SoftCap | SoftCapSampling):
            assert found == wanted, name
