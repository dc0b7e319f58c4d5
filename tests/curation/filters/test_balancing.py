"""What balancing promises beside its formulas: fair chances, the same draw everywhere, weights that add up."""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from brute_balancing import brute_mentions, brute_metaclip, chances, matched, shares
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.core.errors import RecipeError, WeightsError
from curation.curating.decisions import Decisions
from curation.filters import FileReadingFilter, Filter, WeightingFilter
from curation.filters.algebra import AnyOf
from curation.filters.cluster_balance import ClusterBalance
from curation.filters.draw import draw
from curation.filters.mentions import Mentions
from curation.filters.metaclip_balance import MetaclipBalance
from curation.filters.named import NamedFilter, columns_needed
from curation.filters.phrases import Phrases
from curation.filters.soft_cap import SoftCap

Row = dict[str, Any]
ENTRIES = ("dog", "red dog", "the red dog", "a", "b a", "cat ,", "St. Bernard", "new  york", "New York", "zebra")


def rows_of(n: int) -> list[Row]:
    rng = np.random.default_rng(7)
    words = ["a", "b", "dog", "red", "the", "cat,", "dogs", "St. Bernard", "New York", "new\tyork", "dog!", " "]
    return [
        {
            "uid": sha256(str(i).encode()).hexdigest()[:32],
            "caption": " ".join(rng.choice(words, rng.integers(0, 7))),
            "cluster": int(rng.geometric(0.4)),
            "reason": "image_corrupt" if i % 17 == 3 else None,
        }
        for i in range(n)
    ]


def decided(home: Path, rows: list[Row], *filters: Filter, **lists: Any) -> list[Row]:
    """decision, reason and weight of each row."""
    named = [NamedFilter(f"f{n}", item) for n, item in enumerate(filters)]
    index, scores = columns_needed(named)
    kinds = {"row": pa.int32(), "uid": pa.string(), "reason": pa.string(), **dict.fromkeys(index, pa.string())}
    kinds |= dict.fromkeys(scores, pa.int32())
    values = [{**row, "row": i} for i, row in enumerate(rows)]
    table = pa.table({name: pa.array([row[name] for row in values], kind) for name, kind in kinds.items()})
    with Decisions(home, index, dict.fromkeys(scores, pa.int32())) as engine:
        engine.load([(0, table)])
        engine.decide(named, **lists)
        found: list[Row] = engine.of_units(0, 0).to_pylist()
        return found


def kept(found: list[Row]) -> set[int]:
    return {row["row"] for row in found if row["decision"] == "kept"}


def mentions(db: duckdb.DuckDBPyConnection, item: Phrases, captions: list[str | None], *, once: bool) -> list[Any]:
    """(number of the caption, entry) in order."""
    db.register("alive", pa.table({"id": range(len(captions)), "caption": pa.array(captions, pa.string())}))
    item.prepare(db)
    return db.execute(
        f"SELECT id, text FROM ({item.mentioned(db, once=once)}) JOIN {item._table} USING (entry) ORDER BY 1, 2"
    ).fetchall()


@pytest.mark.parametrize("ignore_case", [False, True])
def test_mentions_are_those_of_the_published_matching(ignore_case: bool) -> None:
    rows = rows_of(600)
    item = Phrases(entries=ENTRIES, ignore_case=ignore_case)
    with duckdb.connect() as db:
        captions = [row["caption"] for row in rows]
        found = mentions(db, item, captions, once=True)
        often = mentions(db, item, captions, once=False)
    wanted = [(i, entry) for i, row in enumerate(rows) for entry in matched(item, row["caption"])]
    assert found == sorted(wanted)
    assert len(often) > len(found) and set(often) == set(found)
    seen = {entry.lower() for _, entry in found}
    assert {"dog", "red dog", "b a", "cat ,", "new york"} <= seen
    assert not seen & {"zebra", "st. bernard"}  # the mark is given spaces of its own in captions, not in entries


def test_any_text_is_matched_as_published() -> None:
    """Spaces and marks wherever they can be, in captions and in entries; words and runs that occur again."""
    text = st.lists(st.sampled_from(["a", "b", "ab", " ", " ", ",", ".", "\n"]), max_size=12).map("".join)
    with duckdb.connect() as db:

        @settings(max_examples=40)
        @given(st.lists(text, min_size=1, max_size=20), st.lists(text.filter(str.strip), min_size=1, max_size=20))
        def holds(captions: list[str], entries: list[str]) -> None:
            item = Phrases(entries=tuple(entries))
            wanted = [(i, entry) for i, caption in enumerate(captions) for entry in matched(item, caption)]
            assert mentions(db, item, [*captions, None], once=True) == sorted(wanted)
            assert sorted(set(mentions(db, item, [None, *captions], once=False))) == [
                (i + 1, e) for i, e in sorted(wanted)
            ]

        holds()


@pytest.mark.parametrize(
    ("item", "brute"),
    [
        (Mentions(entries=("a b a b a", "zebra", "b b")), brute_mentions),
        (MetaclipBalance(entries=("a b a b a", "dog", "b b"), t=1), brute_metaclip),
    ],
)
def test_a_caption_of_any_length_takes_memory_by_its_words_alone(item: Any, brute: Any, tmp_path: Path) -> None:
    """64 KB, each pair of whose words begins an entry: with a list of them all for each, that was 2 GB."""
    rows = rows_of(40)
    rows[0]["caption"] = "a b " * (1 << 14)
    usable = {i for i, row in enumerate(rows) if not row["reason"]}
    assert kept(decided(tmp_path, rows, item)) == usable - brute(item, rows)


def test_metaclip_keeps_each_sample_with_its_probability(tmp_path: Path) -> None:
    rows, seeds = rows_of(150), 120
    wanted = chances(MetaclipBalance(entries=ENTRIES, t=4), rows)
    times = dict.fromkeys(range(len(rows)), 0)
    for seed in range(seeds):
        for i in kept(decided(tmp_path, rows, MetaclipBalance(entries=ENTRIES, t=4, seed=seed))):
            times[i] += 1
    for i, share in wanted.items():
        assert abs(times[i] / seeds - share) <= 4.5 * (share * (1 - share) / seeds) ** 0.5
    assert sum(0 < share < 1 for share in wanted.values()) > 20


def test_a_larger_t_keeps_all_that_a_smaller_one_did(tmp_path: Path) -> None:
    rows = rows_of(400)
    sizes = [kept(decided(tmp_path, rows, MetaclipBalance(entries=ENTRIES, t=t))) for t in (1, 5, 30, 1000)]
    assert all(few < many for few, many in pairwise(sizes))
    reasons = {row["reason"] for row in decided(tmp_path, rows, MetaclipBalance(entries=ENTRIES, t=1))}
    assert reasons == {None, "f0.no_match", "f0.capped", "image_corrupt"}


def test_draws_are_uniform_and_other_seeds_and_other_filters_draw_anew() -> None:
    with duckdb.connect() as db:
        db.execute("CREATE TABLE t AS SELECT md5(i::VARCHAR) AS uid FROM range(40000) r(i)")
        some = [draw(0, "a"), draw(1, "a"), draw(0, "it's")]
        values = np.stack([db.execute(f"SELECT {sql} FROM t").fetchnumpy().popitem()[1] for sql in some])
    assert values.min() >= 0 and values.max() < 1
    counts = np.stack([np.histogram(row, 20, (0, 1))[0] for row in values])
    assert np.abs(counts - 2000).max() < 5 * 2000**0.5
    assert np.abs(np.corrcoef(values) - np.eye(3)).max() < 0.03


def test_other_samples_change_no_draw(tmp_path: Path) -> None:
    """Twice as many samples of other clusters: those of this one stay or leave as before, in any order."""
    rows = rows_of(300)
    more = [{**row, "uid": row["uid"][::-1], "cluster": row["cluster"] + 100} for row in rows]
    for item in (SoftCap(column="cluster", cap=9), ClusterBalance(column="cluster", most=9)):
        alone, among = decided(tmp_path, rows, item), decided(tmp_path, [*more, *rows], item)
        assert [row["decision"] for row in alone] == [row["decision"] for row in among[len(more) :]]


def test_soft_cap_weights_make_up_for_what_leaves(tmp_path: Path) -> None:
    rows, seeds = rows_of(200), 60
    wanted = shares(SoftCap(column="cluster", cap=5, alpha=0.3), rows)
    totals = []
    for seed in range(seeds):
        found = decided(tmp_path, rows, SoftCap(column="cluster", cap=5, alpha=0.3, seed=seed))
        for i in kept(found):
            assert found[i]["weight"] == pytest.approx(1 / wanted[i], rel=1e-6)
        assert all(row["weight"] == 0 for row in found if row["decision"] != "kept")
        totals.append(sum(row["weight"] for row in found))
    error = sum(1 / share - 1 for share in wanted.values()) ** 0.5  # of one total: Horvitz-Thompson's variance
    assert abs(np.mean(totals) - len(wanted)) < 4 * error / seeds**0.5
    plain = decided(tmp_path, rows, SoftCap(column="cluster", cap=5, weights=False))
    assert {row["weight"] for row in plain} == {0, 1}


def test_weights_are_multiplied_a_lists_hold_and_what_the_keep_list_keeps_weighs_one(tmp_path: Path) -> None:
    rows = [row for row in rows_of(300) if not row["reason"]]
    one = SoftCap(column="cluster", cap=20, seed=1)
    two = ClusterBalance(column="cluster", most=50), SoftCap(column="cluster", cap=10, seed=2)
    alone = decided(tmp_path, rows, one)
    both = decided(tmp_path, rows, one, *two)
    assert kept(both) < kept(alone)
    weighed = max(kept(both), key=lambda i: both[i]["weight"])
    assert both[weighed]["weight"] > alone[weighed]["weight"] > 1
    uids = pa.array([row["uid"] for row in rows])
    listed = pa.table({"uid": uids, "weight": pa.array(np.full(len(rows), 3), pa.float32())})
    threes = decided(tmp_path, rows, one, *two, weights=listed)
    assert [row["weight"] for row in threes] == [3 if row["weight"] else 0 for row in both]
    gone = next(i for i, row in enumerate(both) if not row["weight"])
    sure = decided(tmp_path, rows, one, *two, keep=pa.array([rows[weighed]["uid"], rows[gone]["uid"]]))
    assert sure[weighed]["weight"] == sure[gone]["weight"] == 1


def test_a_list_in_a_file_is_the_list(tmp_path: Path) -> None:
    text = "\n".join([*ENTRIES, "", "  dog "]).encode()
    (tmp_path / "list.txt").write_bytes(text)
    file = {"url": f"{tmp_path}/list.txt", "sha256": sha256(text).hexdigest()}
    rows = rows_of(200)
    assert decided(tmp_path, rows, Mentions(**file)) == decided(tmp_path, rows, Mentions(entries=ENTRIES))
    either = AnyOf(of=(Mentions(**file), ClusterBalance(column="cluster", most=1)))
    assert isinstance(either, FileReadingFilter) and either.files() == Mentions(**file).files()
    assert not isinstance(either, WeightingFilter) and isinstance(SoftCap(column="cluster", cap=1), WeightingFilter)
    with pytest.raises(WeightsError, match="has sha256"):
        decided(tmp_path, rows, Mentions(url=file["url"], sha256="1" * 64))
    assert decided(tmp_path, rows, Mentions(entries=("\tdog ",))) == decided(tmp_path, rows, Mentions(entries=("dog",)))
    (tmp_path / "empty.txt").write_bytes(b"\n  \n")
    with pytest.raises(RecipeError, match=r"empty\.txt holds no phrase"):
        decided(tmp_path, rows, Mentions(url=f"{tmp_path}/empty.txt", sha256=sha256(b"\n  \n").hexdigest()))
    (tmp_path / "latin.txt").write_bytes(b"\xef\xbb\xbfdog\ncaf\xe9\n")
    with pytest.raises(RecipeError, match=r"latin\.txt:2: the list is not UTF-8"):
        decided(
            tmp_path,
            rows,
            Mentions(url=f"{tmp_path}/latin.txt", sha256=sha256(b"\xef\xbb\xbfdog\ncaf\xe9\n").hexdigest()),
        )
    text = "\ufeffdog\n".encode()  # as some editors write it
    (tmp_path / "mark.txt").write_bytes(text)
    marked = Mentions(url=f"{tmp_path}/mark.txt", sha256=sha256(text).hexdigest())
    assert decided(tmp_path, rows, marked) == decided(tmp_path, rows, Mentions(entries=("dog",)))
    text = "red\u2028dog\r\nred\rzebra\n".encode()  # lines end as text files' do, and nowhere else
    (tmp_path / "odd.txt").write_bytes(text)
    odd = Mentions(url=f"{tmp_path}/odd.txt", sha256=sha256(text).hexdigest())
    assert decided(tmp_path, rows, odd) == decided(tmp_path, rows, Mentions(entries=("red\u2028dog", "red", "zebra")))
