"""The curve of correct labels: the order of answers, and random order, by hand and by simulation."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from curation.review.answer_curve import MOST_POINTS, AnswerCurve, CurveSums
from curation.review.status import ItemState
from curation.review.votes import ItemVotes

Item = tuple[str, str | None, Sequence[tuple[str, str]]]  # current label, truth, (reviewer, label or "?")


def state(n: int, item: Item, times: Mapping[str, str]) -> ItemState:
    current, _, answers = item
    labels = {name: label for name, label in answers if label != "?"}
    votes = ItemVotes(labels, {name for name, label in answers if label == "?"}, {}, dict(times))
    return ItemState(n, votes.state(current, 1), current, votes.leader(current, 1), votes, [])


def curve(items: Sequence[Item], times: Mapping[int, Mapping[str, str]] = {}) -> AnswerCurve:
    sums = CurveSums(current_votes=1)
    for n, item in enumerate(items):
        sums.add(state(n, item, times.get(n, {})), item[0], item[1])
    return sums.curve()


def correct(found: AnswerCurve) -> list[int]:
    return [point.correct for point in found.points]


FIXED: Item = ("cat", "dog", [("s-1", "dog"), ("s-2", "dog")])
WORSE: Item = ("cat", "cat", [("s-1", "dog"), ("s-2", "dog")])
CONFIRMED: Item = ("cat", "cat", [("s-1", "cat")])


def test_an_answer_counts_when_a_class_gets_ahead() -> None:
    found = curve([FIXED, CONFIRMED, WORSE])
    assert correct(found) == [2, 2, 3, 3, 3, 2] and [point.answers for point in found.points] == [*range(6)]
    assert found.known == 3 and found.order == "rank"


def test_answers_count_in_the_order_of_their_times() -> None:
    late, early = "2026-11-30T10:00:00+00:00", "2026-11-30T09:00:00+00:00"
    found = curve([FIXED, WORSE], {0: {"s-1": late, "s-2": late}, 1: {"s-1": early, "s-2": early}})
    assert correct(found) == [1, 1, 0, 0, 1] and found.order == "time"
    found = curve([FIXED, WORSE], {0: {"s-1": late, "s-2": "yesterday"}})
    assert found.order == "rank, then time" and correct(found) == [1, 1, 1, 0, 1]


def test_annotators_answer_in_the_order_of_each_round() -> None:
    sums = CurveSums(current_votes=1)
    for n, item in enumerate([FIXED, WORSE, CONFIRMED]):
        sums.add(state(n, item, {}), item[0], item[1])
    assert correct(sums.curve()) == [2, 2, 3, 3, 2, 2]
    assert correct(sums.curve(np.array([7, 3, 5]))) == [2, 2, 1, 1, 1, 2]


def test_time_zones_count() -> None:
    times = {0: {"s-1": "2026-11-30T10:00:00+05:00", "s-2": "2026-11-30T10:00:00+05:00"}}
    times[1] = {"s-1": "2026-11-30T06:00:00", "s-2": "2026-11-30T06:00:00Z"}
    assert correct(curve([WORSE, FIXED], times)) == [1, 1, 0, 0, 1]


def test_the_tenth_answer_follows_the_ninth() -> None:
    split = [(f"simulated-{n}", "dog" if n % 2 else "owl") for n in range(1, 10)]
    item: Item = ("cat", "dog", [*split, ("simulated-10", "dog")])
    found = curve([item])
    assert correct(found) == [0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 1], "dog leads after 3, 5, 7, 9 and 10"


def test_unknown_truth_costs_and_gains_nothing() -> None:
    found = curve([("cat", None, FIXED[2]), FIXED])
    assert correct(found) == [0, 0, 0, 0, 1] and found.known == 1
    assert found.slope == pytest.approx(1 / 4)


def test_cant_tell_costs_an_answer() -> None:
    assert correct(curve([("cat", "dog", [("ann", "?")]), CONFIRMED])) == [1, 1, 1]


def test_no_answers() -> None:
    found = curve([("cat", "cat", [])])
    assert correct(found) == [1] and found.slope is None and found.points[0].random is None
    assert correct(curve([])) == [0]


def test_few_points_of_many_answers() -> None:
    found = curve([FIXED] * 5000)
    assert len(found.points) == MOST_POINTS
    assert (found.points[0].answers, found.points[-1].answers) == (0, 10_000) and found.points[-1].correct == 5000


def test_random_order_is_the_mean_of_shuffles() -> None:
    """Where all items are answered, the line is what shuffling the items gives, up to one item's answers."""
    items = [FIXED] * 30 + [CONFIRMED] * 50 + [WORSE] * 4 + [("cat", "owl", WORSE[2])] * 6
    line = curve(items)
    draw = random.Random(1)
    found = [correct(curve(draw.sample(items, len(items)))) for _ in range(100)]
    for place in (20, 60, 100, 128):
        expected = line.points[place].random
        assert expected is not None
        assert sum(one[place] for one in found) / len(found) == pytest.approx(expected, abs=1)
    assert line.points[-1].random == pytest.approx(line.points[-1].correct)


def test_random_order_of_a_queue_that_was_not_finished() -> None:
    """10 wrong items, 2 of them answered (4 answers, 2 fixed), and 30 right ones, 3 answered (3 answers)."""
    wrong, right = (("cat", "dog", []), ("cat", "cat", []))
    items: list[Item] = [FIXED] * 2 + [CONFIRMED] * 3 + [wrong] * 8 + [right] * 27  # type: ignore[list-item]
    assert curve(items).slope == pytest.approx(10 * 1 / (10 * 2 + 30 * 1))


def test_random_order_is_not_defined_without_answers_to_right_labels() -> None:
    assert curve([FIXED, ("cat", "cat", [])]).slope is None
