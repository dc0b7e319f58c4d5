"""Intervals against tables and arithmetic by hand, and what a whole report of them says where nothing differs."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from sampling import one_in

from curation.core.intervals import Difference, Estimate, difference, estimate, student, wilson
from curation.dataset.evaluations import ARMS, METRICS, Figures, minus

DATA = Path(__file__).parents[2] / "data"


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.706), (2, 4.303), (4, 2.776), (10, 2.228), (11, 2.201), (20, 2.086), (30, 2.042), (120, 1.980)],
)
def test_student_is_the_printed_table(freedom: int, quantile: float) -> None:
    assert student(freedom) == pytest.approx(quantile, abs=5e-4)


def test_a_mean_of_three() -> None:
    found = estimate([0.1, 0.2, 0.3])  # s = 0.1; 4.3027 * 0.1 / sqrt(3)
    assert found.mean == pytest.approx(0.2) and found.half == pytest.approx(0.24842, abs=1e-5)
    assert str(found) == "0.200 ± 0.248"


def test_one_value_has_no_interval_and_shows_nothing() -> None:
    assert estimate([0.4]) == (0.4, None) and str(estimate([0.4])) == "0.400"
    alone = difference({0: 0.9}, {0: 0.1})
    assert (alone.half, alone.word, str(alone)) == (None, "no difference shown", "+0.800")


def test_pairs_are_narrower_than_their_spread() -> None:
    theirs = {0: 0.10, 1: 0.20, 2: 0.30}
    ours = {0: 0.12, 1: 0.23, 2: 0.34}  # differences 0.02, 0.03, 0.04: s = 0.01; 4.3027 * 0.01 / sqrt(3)
    found = difference(ours, theirs)
    assert found.paired and found.mean == pytest.approx(0.03) and found.half == pytest.approx(0.024842, abs=1e-6)
    assert found.word == "better" and difference(theirs, ours).word == "worse"
    assert difference(ours, ours).word == "no difference shown"
    assert difference({0: 0.5, 1: 0.25}, {0: 0.25, 1: 0.0}).word == "no difference shown", "no spread at all"


def test_seeds_that_are_no_pairs_are_two_samples() -> None:
    # variances 0.01 and 0.04 of three each: se^2 = 0.05 / 3; freedom 0.05^2 / ((0.01^2 + 0.04^2) / 2) = 2.94, so 2
    found = difference({0: 0.4, 1: 0.5, 2: 0.6}, {7: 0.0, 8: 0.2, 9: 0.4})
    assert not found.paired and found.mean == pytest.approx(0.3)
    assert found.half == pytest.approx(4.3027 * (0.05 / 3) ** 0.5, abs=1e-4)
    assert difference({0: 0.4}, {7: 0.1, 8: 0.2}).half is None


def test_figures_are_those_of_earlier_versions() -> None:
    """Quantiles were computed without scipy once; the file holds those figures."""
    recorded = json.loads((DATA / "intervals.json").read_text())
    assert all(recorded[name] for name in ("student", "wilson", "estimate", "difference"))
    for freedom, comparisons, value in recorded["student"]:
        assert student(freedom, comparisons) == pytest.approx(value, rel=1e-9)
    for hits, total, *figures in recorded["wilson"]:
        rate = wilson(hits, total, 0.1)
        assert [rate.rate, rate.low, rate.high] == pytest.approx(figures, abs=1e-9)
    for values, comparisons, *figures in recorded["estimate"]:
        assert list(estimate(values, comparisons)) == pytest.approx(figures, rel=1e-9)
    for ours, theirs, comparisons, *figures in recorded["difference"]:
        found = difference(dict(enumerate(ours)), dict(enumerate(theirs, 100)), comparisons)
        assert not found.paired and [found.mean, found.half] == pytest.approx(figures, rel=1e-9)


def test_whole_degrees_of_freedom_are_not_rounded_down() -> None:
    """Three and three of one variance have exactly 4, however its sums round."""
    found = difference({0: 0.1, 1: 0.2, 2: 0.3}, {7: 1.1, 8: 1.2, 9: 1.3})
    assert found.half == pytest.approx(student(4) * (0.02 / 3) ** 0.5, rel=1e-9)


def reports(count: int, seeds: int, better: float = 0.0) -> list[list[str]]:
    """The words of `count` evaluations of three arms, whose figures have three metrics that go together. The curated
    arm is `better` by so much."""
    found = []
    generator = random.Random(seeds)
    for _ in range(count):
        runs: dict[str, Figures] = {}
        luck = [generator.gauss(0, 0.004) for _ in range(seeds)]  # of a seed, whatever it is trained on
        for arm in ARMS:
            own = [generator.gauss(0, 0.003) for _ in range(seeds)]
            runs[arm] = {
                seed: {name: 0.3 + luck[seed] + own[seed] + generator.gauss(0, 0.003) + better * (arm == "curated")
                       for name in METRICS}
                for seed in range(seeds)
            }  # fmt: skip
        differences, intervals = minus(runs)
        assert intervals == {"correction": "bonferroni", "level": 0.95, "comparisons": 6}
        found.append([one["word"] for by_metric in differences.values() for one in by_metric.values()])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seeds", one_in(3, [2, 3, 5]))
def test_a_report_of_nothing_says_a_word_in_one_of_twenty(seeds: int) -> None:
    found = reports(3000, seeds)
    false = sum(any(word != "no difference shown" for word in words) for words in found)
    chance = 3 * (0.05 * 0.95 / len(found)) ** 0.5  # of as many reports: 0.012
    assert false / len(found) <= 0.05 + chance, "the rate of the family; each by itself it was one report in six"
    assert false >= 0.005 * len(found), "nor is it a rule that never says anything"


@pytest.mark.parametrize(("seeds", "better"), [(3, 0.15), (5, 0.03)])
def test_a_large_difference_is_found(seeds: int, better: float) -> None:
    for sign, word in ((1, "better"), (-1, "worse")):
        words = [word for words in reports(300, seeds, sign * better) for word in words]
        assert words.count(word) >= 0.99 * len(words)


def test_three_hints_are_no_proof() -> None:
    """+0.003 +- 0.002 from 20 steps and three seeds, one of six: seen as `better` before."""
    ours, theirs = {0: 0.1021, 1: 0.1035, 2: 0.1034}, {0: 0.1, 1: 0.1, 2: 0.1}
    alone, together = difference(ours, theirs), difference(ours, theirs, 6)
    assert (alone.word, together.word) == ("better", "no difference shown") and together.half > 2.5 * alone.half  # type: ignore[operator]


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [
        (0.00304, 0.00299, "+0.00304 ± 0.00299"), (0.003, 0.002, "+0.0030 ± 0.0020"), (-0.5, 0.12, "-0.500 ± 0.120"),
        (0.0004, 0.00002, "+0.000400 ± 0.000020"), (0.2, 0.0, "+0.200 ± 0.000"),
        (0.0020001, 0.002, "+0.0020001 ± 0.0020000"), (0.002, 0.0020001, "+0.0020 ± 0.0020"),
    ],
)  # fmt: skip
def test_digits_show_whether_an_interval_holds_0(mean: float, half: float, text: str) -> None:
    one = Difference(mean, half, paired=True)
    assert str(one) == text
    shown, width = (float(part) for part in str(one).split(" ± "))
    assert (abs(shown) > width) == (one.word != "no difference shown") or not half
    assert str(Estimate(mean, half)).endswith(f"{half:.3f}") or half < 0.01
