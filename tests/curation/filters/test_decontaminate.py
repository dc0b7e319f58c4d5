"""Samples that occur in other snapshots, against plain loops over both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from decided_rows import decided_rows
from rows_given import Row, alike, random_rows, table
from sampling import one_in

from curation.curating import decision_results
from curation.curating.decisions import Decisions
from curation.filters import AnyOf, Filter
from curation.filters.decontaminate import Decontaminate, _few
from curation.filters.named import NamedFilter


def asked(
    tmp: Path,
    item: Decontaminate,
    rows: list[Row],
    others: list[list[Row]],
    outer: Any = None,
    owns: tuple[bool, ...] = (False, False),
) -> Any:
    """(row -> reason, matches) of `rows` against snapshots that keep all of `others` but their quarantined.

    `owns`: which of them are earlier ones of the same dataset.
    """
    with Decisions(tmp, ["content_hash"], {"phash": pa.int64()}, ["embedding"]) as engine:
        engine.load([(0, table(rows).select(["row", "uid", "reason", "content_hash", "phash", "embedding"]))])
        made = []
        for one, own in zip(others, owns, strict=False):
            manifest = pa.table(
                {
                    "uid": [row["uid"] for row in one],
                    "decision": ["quarantined" if row["reason"] else "kept" for row in one],
                }
            )
            samples = table(one).select(["uid", "content_hash", *item.compared_columns()])
            made.append((own, manifest.to_reader(), [samples]))
        engine.load_others(item.compared_table(), item.compared_columns(), made)
        engine.decide([NamedFilter("decontaminate", outer or item)])
        decided = decided_rows(engine, 0, 0).to_pylist()
        matches = decision_results.matches(engine).read_all().to_pylist()
        return {r["row"]: r["reason"] for r in decided if r["decision"] == "filtered"}, matches


def differ(one: Row, other: Row, distance: int) -> int:
    """In how many bits two hashes differ; in more than all, where they are not near."""
    return ((one["phash"] ^ other["phash"]) % 2**64).bit_count() if alike(one, other, distance) else 65


def same(item: Decontaminate, row: Row, other: Row) -> str | None:
    if row["content_hash"] == other["content_hash"]:
        return "exact"
    if item.hash and differ(row, other, item.distance) <= item.distance:
        return "perceptual"
    a, b = (one["embedding"].astype(np.float32) for one in (row, other))
    if item.embedding and a @ b / np.linalg.norm(a) / np.linalg.norm(b) >= item.threshold:
        return "embedding"
    return None


ITEMS = [
    Decontaminate(against=("a", "b")),
    Decontaminate(against=("a", "b"), hash="phash", distance=3),
    Decontaminate(against=("a", "b"), hash="phash", distance=0),
    Decontaminate(against=("a", "b"), embedding="embedding", threshold=0.97),
    Decontaminate(against=("a", "b"), hash="phash", embedding="embedding", threshold=0.9),
]


@pytest.mark.parametrize("owns", one_in(3, [(False, True), (False, False), (True, True)]))
@pytest.mark.parametrize("item", ITEMS, ids=repr)
def test_equals_plain_loops(item: Decontaminate, owns: tuple[bool, bool], tmp_path: Path) -> None:
    pool = random_rows(300, 1)
    for n, row in enumerate(pool):  # hashes of bytes of their own; those of `random_rows` repeat everywhere
        row["content_hash"] = f"p{n}"
    others = [random_rows(40, 1), random_rows(30, 2)]
    for place, side in enumerate(others):
        for n, row in enumerate(side):
            row["uid"] = f"{1000 * place + n:032x}"
            row["content_hash"] = f"p{7 * n}" if n % 5 == 0 else f"o{n}"
    others[1][0] = pool[3]  # one that both take from the same place
    found, matches = asked(tmp_path, item, pool, others, owns=owns)
    kept_by = [(row, is_own) for side, is_own in zip(others, owns, strict=True) for row in side if not row["reason"]]
    kept = [row for row, _ in kept_by]
    of_others = {row["uid"] for row, is_own in kept_by if not is_own}
    own = {row["uid"] for row, is_own in kept_by if is_own} - of_others
    first = ("exact", "perceptual", "embedding")
    expected = {}
    for n, row in enumerate(pool):
        ways = {same(item, row, other) for other in kept if not (other["uid"] == row["uid"] in own)} - {None}
        if ways and not row["reason"]:
            expected[n] = f"decontaminate.{min(ways, key=first.index)}"
    assert found == expected
    assert len(expected) > 5
    by_uid = {row["uid"]: row for row in kept}
    for match in matches:
        row = next(row for row in pool if row["uid"] == match["uid"])
        other = by_uid[match["other"]]
        assert match["against"] == ("a" if other in others[0] else "b")
        if match["how"] == "perceptual":
            bits = [differ(row, one, item.distance) for one in kept if not (one["uid"] == row["uid"] in own)]
            assert match["value"] == min(bits)
    assert {match["uid"] for match in matches} == {pool[n]["uid"] for n in expected}


def best(item: Decontaminate, row: Row, others: list[tuple[Row, int, bool]], how: str) -> Any:
    """(how, value, place of the snapshot, uid) of the nearest of those that are the same, with smaller uids first."""
    found = []
    for other, place, is_own in others:
        bits = differ(row, other, item.distance)
        fits = row["content_hash"] == other["content_hash"] if how == "exact" else bits <= item.distance
        if fits and not (is_own and other["uid"] == row["uid"]):
            found.append((0 if how == "exact" else bits, other["uid"], place))
    if not found:
        return None
    bits, uid, place = min(found)
    return how, 1 if how == "exact" else bits, "ab"[place], uid


@pytest.mark.parametrize("owns", [(False, False), (True, True), (False, True), (True, False)])
def test_of_copies_each_sample_has_its_best_one_and_few_are_brought_together(
    owns: tuple[bool, bool], tmp_path: Path
) -> None:
    """Many here that are the same as many there, some of which are the samples themselves."""
    rng = np.random.default_rng(8)
    usual = 0x0F0F0F0F0F0F0F0F
    hashes = [0, usual, usual ^ 1, usual ^ 3, usual ^ 7, usual ^ 1 << 40, ~usual]

    def some(n: int, uids: list[int]) -> list[Row]:
        rows = [{**row, "reason": None, "uid": f"{uid:032x}"} for row, uid in zip(random_rows(n, 8), uids, strict=True)]
        for row in rows:
            row["content_hash"], row["phash"] = f"{rng.integers(0, 3)}", int(rng.choice(hashes))
        return rows

    pool = some(60, list(range(60)))
    sides = [some(50, list(range(0, 100, 2))), some(40, list(range(55, 95)))]
    sides[0][:9] = [dict(row) for row in pool[:18:2]]  # an earlier snapshot has them as they are
    sides[1] += [dict(row) for row in sides[0][30:]]  # and some both have, as they are
    sides[1] = list({row["uid"]: row for row in sides[1]}.values())
    item = Decontaminate(against=("a", "b"), hash="phash", distance=2)
    others = [(row, n, owns[n]) for n, side in enumerate(sides) for row in side]
    _, matches = asked(tmp_path, item, pool, sides, owns=owns)
    found = {(m["uid"], m["how"]): (m["how"], m["value"], m["against"], m["other"]) for m in matches}
    expected = {(row["uid"], how): best(item, row, others, how) for row in pool for how in ("exact", "perceptual")}
    assert found == {key: value for key, value in expected.items() if value}
    with duckdb.connect() as db:
        rows = [(row["phash"], own, row["uid"], place) for row, place, own in others]
        names = ("key", "own", "uid", "snapshot")
        db.register("given", pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))))
        few = _few("SELECT key, own, uid, 0 AS bits, snapshot FROM given")
        ((most,),) = db.execute(f"SELECT max(n) FROM (SELECT count(*) AS n FROM ({few}) GROUP BY key)").fetchall()
    assert most <= 3


@pytest.mark.slow
@pytest.mark.parametrize("item", [item for item in ITEMS if item.embedding], ids=repr)
def test_others_that_do_not_fit_into_memory_are_compared_some_at_a_time(
    item: Decontaminate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.filters.decontaminate.HELD", 7 * 2 * 8)
    monkeypatch.setattr("curation.filters.decontaminate.COLUMNS", 3)
    test_equals_plain_loops(item, (False, True), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("own", [True, False])
def test_a_sample_is_its_own_duplicate_but_for_earlier_snapshots_of_the_dataset(own: bool, tmp_path: Path) -> None:
    """A shard of the evaluation set that was copied into the pool as it is has the same uids there."""
    rows = [{**row, "reason": None, "content_hash": f"{n}"} for n, row in enumerate(random_rows(50, 3))]
    item = Decontaminate(against=("before",), embedding="embedding", threshold=0.9999, hash="phash", distance=0)
    found, _ = asked(tmp_path, item, rows[:1], [rows[:1]], owns=(own,))
    assert found == ({} if own else {0: "decontaminate.exact"})
    copy = {**rows[0], "uid": f"{5:032x}"}
    assert asked(tmp_path, item, [copy], [rows[:1]], owns=(own,))[0] == {0: "decontaminate.exact"}
    both = asked(tmp_path, item, rows[:1], [rows[:1], rows[:1]], owns=(own, False))[0]
    assert both == {0: "decontaminate.exact"}  # the same sample is in an evaluation set, too


def test_an_embedding_of_the_others_that_is_no_number_matches_nothing(tmp_path: Path) -> None:
    rows = [{**row, "reason": None, "content_hash": f"{n}"} for n, row in enumerate(random_rows(9, 3))]
    broken = {**rows[0], "uid": f"{7:032x}", "content_hash": "x", "embedding": np.full(8, np.nan, np.float16)}
    item = Decontaminate(against=("eval",), embedding="embedding", threshold=0.99)
    assert asked(tmp_path, item, rows[1:2], [[broken, {**rows[1], "uid": f"{8:032x}", "content_hash": "y"}]])[0] == {
        0: "decontaminate.embedding"
    }


def test_equal_vectors_have_a_cosine_of_1_and_cosines_are_those_of_what_is_stored(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [{**row, "reason": None, "content_hash": f"{n}"} for n, row in enumerate(random_rows(200, 3))]
    for row in rows:
        row["embedding"] = rng.standard_normal(8).astype(np.float16)
    near = [row["embedding"] + rng.standard_normal(8).astype(np.float16) * np.float16(0.05) for row in rows[100:]]
    vectors = [*(row["embedding"] for row in rows[:100]), *near]
    others = [
        {**row, "uid": f"{9000 + n:032x}", "content_hash": f"o{n}", "embedding": vector.astype(np.float16)}
        for n, (row, vector) in enumerate(zip(rows, vectors, strict=True))
    ]
    found = asked(tmp_path, Decontaminate(against=("e",), embedding="embedding", threshold=1), rows, [others])[0]
    assert set(found) == set(range(100))
    _, matches = asked(tmp_path, Decontaminate(against=("e",), embedding="embedding", threshold=0.9), rows, [others])
    by_uid = {row["uid"]: row["embedding"].astype(np.float64) for row in [*rows, *others]}
    for match in matches:
        a, b = by_uid[match["uid"]], by_uid[match["other"]]
        assert match["value"] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-6)


def test_as_a_part_of_another_filter_its_matches_are_told_too(tmp_path: Path) -> None:
    rows = [{**row, "reason": None, "content_hash": f"{n}"} for n, row in enumerate(random_rows(20, 4))]
    copies = [{**row, "uid": f"{n:032x}"} for n, row in enumerate(rows[:3])]
    item = Decontaminate(against=("eval",))
    found, matches = asked(tmp_path, item, rows, [copies], outer=AnyOf(of=(item,)))
    assert set(found) == {0, 1, 2} and len(matches) == 3


@pytest.mark.slow
def test_nothing_to_compare_with_drops_nothing(tmp_path: Path) -> None:
    for item in ITEMS:
        assert asked(tmp_path, item, random_rows(30, 5), [[], []]) == ({}, [])


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Decontaminate(against=()),
        lambda: Decontaminate(against=("a",), distance=13),
    ],
)
def test_senseless_settings_are_refused(bad: Callable[[], Filter]) -> None:
    with pytest.raises(ValueError):
        bad()
