"""Soft Cap Sampling: the draws of its definition, one at a time, and with their probabilities."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from math import exp
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from brute_balancing import (
    alive,
    brute_draws,
    brute_soft_cap_sampling,
)
from decided_rows import decided_rows
from edits_given import of_lists
from filters_given import SIZES, expect_equal_to, items_of
from rows_given import Row, random_rows, table

from curation.core.errors import RecipeError
from curation.curating.decisions import Decisions
from curation.filters import Filter, soft_cap_sampling
from curation.filters.algebra import AnyOf
from curation.filters.named import NamedFilter
from curation.filters.soft_cap_sampling import SoftCapSampling
from curation.filters.threshold import Threshold

Counts = tuple[int, ...]
SCORES = (0.0, 0.7, 1.5)


def drawn(home: Path, rows: list[Row], *filters: Any, **lists: Any) -> Counter[int]:
    """The engine's draws of each row: the weights of the kept rows."""
    with Decisions(home, [], {"score": pa.float32()}) as engine:
        engine.load([(0, table(rows).select(["row", "uid", "reason", "score"]))])
        engine.decide([NamedFilter(f"f{n}", item) for n, item in enumerate(filters)], of_lists(**lists))
        found = decided_rows(engine, 0, 0).to_pylist()
    assert all((row["decision"] == "kept") == (row["weight"] > 0) for row in found)
    return Counter({row["row"]: round(row["weight"]) for row in found if row["weight"]})


def of_scores(*scores: float) -> list[Row]:
    rows = random_rows(len(scores), 1)
    return [{**row, "score": score, "reason": None} for row, score in zip(rows, scores, strict=True)]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"draws": 1},
        {"draws": 70, "gain": 5.0},
        {"draws": 900, "gain": -3.0, "penalty": 0.05, "seed": 1},
        {"gain": 0.0, "penalty": 2.0},
        {"gain": 6.0, "penalty": 0.0, "seed": 2},
    ],
    ids=repr,
)
def test_draws_are_those_of_clocks_that_ring_one_after_the_other(fields: dict[str, Any], tmp_path: Path) -> None:
    rows = random_rows(250, 1)  # with ties and quarantined ones
    item = SoftCapSampling(score="score", **fields)
    found = drawn(tmp_path, rows, item)
    assert found == brute_draws(item, rows)
    assert found.total() == (item.draws or len(alive(rows)))


def chances(scores: tuple[float, ...], draws: int, penalty: float) -> dict[Counts, float]:
    """The probability of each outcome (how often each was drawn), by all ways to it: one draw of softmax at a time."""
    found: dict[Counts, float] = {(0,) * len(scores): 1.0}
    for _ in range(draws):
        after: dict[Counts, float] = defaultdict(float)
        for counts, chance in found.items():
            rates = [exp(score - penalty * n) for score, n in zip(scores, counts, strict=True)]
            for i, rate in enumerate(rates):
                more = (*counts[:i], counts[i] + 1, *counts[i + 1 :])
                after[more] += chance * rate / sum(rates)
        found = after
    return found


def assert_fits(outcomes: list[Counts], wanted: dict[Counts, float]) -> None:
    """Chi-square over the outcomes; rare ones together. The bound is 4.5 standard deviations above its mean."""
    seen, n = Counter(outcomes), len(outcomes)
    often = {counts: chance for counts, chance in wanted.items() if chance * n >= 5}
    cells = [(seen[counts], chance * n) for counts, chance in often.items()]
    cells.append((n - sum(got for got, _ in cells), n * (1 - sum(often.values())) + 1e-9))
    chi_square = sum((got - mean) ** 2 / mean for got, mean in cells)
    free = len(cells) - 1
    assert free > 10
    assert chi_square < free + 4.5 * (2 * free) ** 0.5


@pytest.mark.parametrize("penalty", [0.0, 0.15, 1.0])
def test_every_outcome_has_the_probability_of_draws_of_softmax_one_at_a_time(penalty: float) -> None:
    rows = of_scores(*SCORES)
    wanted = chances(SCORES, 7, penalty)
    outcomes = []
    for seed in range(4000):  # by the clocks that the test above finds equal to the filter
        counts = brute_draws(SoftCapSampling(score="score", draws=7, penalty=penalty, seed=seed), rows)
        outcomes.append((counts[0], counts[1], counts[2]))
    assert_fits(outcomes, wanted)
    assert sum(wanted.values()) == pytest.approx(1)
    with pytest.raises(AssertionError):  # the test can tell penalties apart
        assert_fits(outcomes, chances(SCORES, 7, penalty + 0.2))


def published(scores: tuple[float, ...], penalty: float, draws: int, batch: int, rng: np.random.Generator) -> Counts:
    """`soft_cap_sampling` of FLYT's examples.ipynb (github.com/formll/FLYT), its data frame left out."""
    logits = np.array(scores)
    chosen: list[int] = []
    while len(chosen) < draws:
        likely = np.exp(logits - logits.max())
        one = rng.choice(len(logits), size=min(batch, draws - len(chosen)), p=likely / likely.sum(), replace=False)
        chosen += one.tolist()
        logits[one] -= penalty
    return tuple(np.bincount(chosen, minlength=len(scores)).tolist())


@pytest.mark.slow
def test_the_published_code_in_batches_of_one_has_the_same_probabilities() -> None:
    rng = np.random.default_rng(0)
    outcomes = [published(SCORES, 0.5, 7, 1, rng) for _ in range(3000)]
    assert_fits(outcomes, chances(SCORES, 7, 0.5))


@pytest.mark.slow
def test_more_draws_repeat_all_that_fewer_did_and_other_samples_only_take_some_away(tmp_path: Path) -> None:
    rows = random_rows(120, 2)
    few, many = (drawn(tmp_path, rows, SoftCapSampling(score="score", draws=n, gain=4.0)) for n in (50, 300))
    assert few < many
    among = drawn(tmp_path, rows + random_rows(120, 3), SoftCapSampling(score="score", draws=300, gain=4.0))
    assert Counter({i: n for i, n in among.items() if i < 120}) < many


@pytest.mark.parametrize("scale", [1.0, 1e38])
def test_the_order_of_rows_changes_nothing(scale: float, tmp_path: Path) -> None:
    rows = [{**row, "score": scale * (row["score"] > 0.5)} for row in random_rows(150, 4)]
    item = SoftCapSampling(score="score", draws=200, gain=3.0)
    found = drawn(tmp_path, rows, item)
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = drawn(tmp_path, [rows[i] for i in order], item)
    assert Counter({int(order[i]): n for i, n in shuffled.items()}) == found
    assert found.total() == 200
    assert all(rows[i]["score"] for i in found) == (scale > 1)


def test_of_equal_times_the_smaller_uid_is_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        soft_cap_sampling, "hash_uniform", lambda seed, of: "0.0"
    )  # all alike, and the end of its range
    rows = of_scores(*[2.0] * 30)
    found = drawn(tmp_path, rows, SoftCapSampling(score="score", draws=44))
    order = sorted(range(30), key=lambda i: rows[i]["uid"])
    assert found == {i: 2 if place < 14 else 1 for place, i in enumerate(order)}


def test_a_large_penalty_draws_all_alike_and_the_best_once_more(tmp_path: Path) -> None:
    rows = of_scores(*range(10))
    found = drawn(tmp_path, rows, SoftCapSampling(score="score", draws=24, gain=1000.0, penalty=1e6))
    assert found == {i: 3 if i >= 6 else 2 for i in range(10)}


@pytest.mark.slow
def test_no_sample_and_one_sample(tmp_path: Path) -> None:
    assert drawn(tmp_path, [], SoftCapSampling(score="score", draws=5)) == {}
    assert drawn(tmp_path, random_rows(9, 5), Threshold(score="score", min=9.0), SoftCapSampling(score="score")) == {}
    assert drawn(tmp_path, of_scores(-7.5), SoftCapSampling(score="score")) == {0: 1}
    assert drawn(tmp_path, of_scores(-7.5), SoftCapSampling(score="score", draws=12)) == {0: 12}


def test_scores_far_apart_are_drawn_as_they_shall_be(tmp_path: Path) -> None:
    """exp(-2000) is 0, and yet the worse sample is drawn once the penalties of the better one add up to as much."""
    found = drawn(tmp_path, of_scores(0.0, 2000.0), SoftCapSampling(score="score", draws=30, penalty=100.0))
    assert 19 <= found[1] <= 26 and found.total() == 30


@pytest.mark.slow
def test_every_field_changes_the_draws(tmp_path: Path) -> None:
    rows = random_rows(150, 6)
    others: list[dict[str, Any]] = [{"draws": 90}, {"gain": 3.0}, {"penalty": 0.6}, {"seed": 1}]
    found = [drawn(tmp_path, rows, SoftCapSampling(score="score", **fields)) for fields in [{}, *others]]
    assert len({tuple(sorted(counts.items())) for counts in found}) == len(found)


@pytest.mark.slow
def test_what_the_keep_list_keeps_weighs_one_and_later_filters_take_draws_away(tmp_path: Path) -> None:
    rows = of_scores(*np.linspace(0, 3, 50).tolist())
    item = SoftCapSampling(score="score", gain=3.0)
    plain = drawn(tmp_path, rows, item)
    often, never = max(plain, key=lambda i: plain[i]), next(i for i in range(50) if not plain[i])
    sure = drawn(tmp_path, rows, item, keep=pa.array([rows[often]["uid"], rows[never]["uid"]]))
    assert plain[often] > 1 and sure == plain | {often: 1, never: 1}
    after = drawn(tmp_path, rows, item, Threshold(score="score", max=2.0))
    assert after == {i: n for i, n in plain.items() if rows[i]["score"] <= 2.0}


@pytest.mark.slow
def test_one_sample_in_too_many_draws_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft_cap_sampling, "MOST", 20)
    least = drawn(tmp_path, of_scores(0.0, 1000.0), SoftCapSampling(score="score", draws=20))
    assert least == {1: 20}
    for draws in (21, 41):
        with pytest.raises(RecipeError, match="would draw one sample about 20 times or more") as caught:
            drawn(tmp_path, of_scores(0.0, 1000.0), SoftCapSampling(score="score", draws=draws))
        assert "larger penalty" in caught.value.fix


def test_inside_any_it_is_refused_without_naming_a_field_that_it_has_not() -> None:
    found = r"soft_cap_sampling in `of` sets sample weights; make it an entry of its own$"
    with pytest.raises(ValueError, match=found):
        AnyOf(of=(SoftCapSampling(score="score"),))


def test_columns_may_have_any_name_and_tables_do_not_stay_behind() -> None:
    scores = pa.table({"id": range(40), "uid": [f"{i:032x}" for i in range(40)], "t": np.linspace(0, 5, 40)})
    with duckdb.connect() as db:
        db.register("alive", scores.append_column("x", scores.column("t")))
        counts = []
        for name in ("t", "x"):
            item = SoftCapSampling(score=name, draws=60)
            for _ in range(2):
                item.prepare(db)
            counts.append(db.execute("SELECT sum(weight), count(*) FROM soft_cap_sampling").fetchone())
        assert [total for total, _ in counts] == [60, 60]  # type: ignore[misc]
        assert [name for (name,) in db.execute("SELECT table_name FROM duckdb_tables()").fetchall()] == [
            "soft_cap_sampling"
        ]


def test_a_score_that_is_a_word_is_one_line(tmp_path: Path) -> None:
    with Decisions(tmp_path, ["format"], {}) as engine:
        engine.load([(0, table(random_rows(5, 1)).select(["row", "uid", "reason", "format"]))])
        with pytest.raises(RecipeError, match="filter soft_cap_sampling can't read its columns"):
            engine.decide([NamedFilter("soft_cap_sampling", SoftCapSampling(score="format"))])


@pytest.mark.parametrize("item", items_of(SoftCapSampling), ids=repr)
@pytest.mark.parametrize("n", SIZES)
def test_equals_brute_force(item: Filter, n: int, tmp_path: Path) -> None:
    expect_equal_to(brute_soft_cap_sampling, item, n, tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: SoftCapSampling(score="s", draws=0),
        lambda: SoftCapSampling(score="s", gain=float("nan")),
        lambda: SoftCapSampling(score="s", gain=-1e7),
        lambda: SoftCapSampling(score="s", penalty=-0.1),
        lambda: SoftCapSampling(score="s", penalty=float("inf")),
    ],
)
def test_senseless_settings_are_refused(bad: Callable[[], Filter]) -> None:
    with pytest.raises(ValueError):
        bad()
