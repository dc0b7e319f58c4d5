"""Rounds: an annotator is asked in rank order until the budget is spent, and again where a killed loop stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from review_queues import make_queue

from curation.annotators import Ask, Question, Reply
from curation.annotators.simulated import Simulated
from curation.core.errors import UserError
from curation.review.queue import Queue
from curation.review.rounds import Rounds, annotate, report_lines
from curation.review.status import status_of
from curation.review.verification import verify_queue
from curation.review.votes import ItemVotes


def truth_teller(asked: list[tuple[int, int]], truth: Mapping[int, str]) -> Ask:
    def ask(question: Question) -> Reply:
        asked.append((question.item, question.n))
        return Reply(f"sim-{question.n}", truth[question.item])

    return ask


def test_an_item_takes_labels_until_a_class_is_ahead() -> None:
    asked: list[tuple[int, int]] = []
    rounds = Rounds(["a", "b", "c"], ["cat", "cat", None], budget=100, current_votes=1)
    rounds.ask(truth_teller(asked, {0: "cat", 1: "dog", 2: "owl"}), [2, 0, 1])
    assert asked == [(2, 1), (0, 1), (1, 1), (1, 2)]
    assert [rounds.winner(item) for item in range(3)] == ["cat", "dog", "owl"] and rounds.spent == 4


def test_the_budget_ends_the_rounds_inside_an_item() -> None:
    asked: list[tuple[int, int]] = []
    rounds = Rounds(["a", "b"], ["cat", "cat"], budget=2, current_votes=1)
    rounds.ask(truth_teller(asked, {0: "cat", 1: "dog"}), [0, 1])
    assert asked == [(0, 1), (1, 1)] and rounds.winner(1) is None


def test_the_hook_reorders_what_is_left() -> None:
    asked: list[tuple[int, int]] = []
    seen: list[int] = []

    def rerank(votes: Mapping[int, ItemVotes]) -> Sequence[int]:
        seen.append(len(votes))
        return [5, 4, 3, 2, 1, 0]

    rounds = Rounds([str(n) for n in range(6)], ["cat"] * 6, budget=6, current_votes=1)
    rounds.ask(truth_teller(asked, dict.fromkeys(range(6), "cat")), range(6), every=2, rerank=rerank)
    assert [item for item, _ in asked] == [0, 1, 5, 4, 3, 2] and seen == [2, 4]


def test_a_round_continues_where_the_one_before_stopped() -> None:
    """The cost of a round does not depend on the items that were answered before."""
    asked: list[tuple[int, int]] = []
    walked: list[int] = []

    def order() -> Iterator[int]:
        for item in range(6):
            walked.append(item)
            yield item

    rounds = Rounds([str(n) for n in range(6)], ["cat", "cat", "cat", "cat", "cat", "cat"], budget=9, current_votes=1)
    truth = dict.fromkeys(range(6), "cat") | {1: "dog"}
    calls: list[int] = []
    rounds.ask(truth_teller(asked, truth), order(), every=2, rerank=lambda votes: calls.append(rounds.spent))
    assert walked == list(range(6)), "each item once"
    assert asked == [(0, 1), (1, 1), (1, 2), (2, 1), (3, 1), (4, 1), (5, 1)], "a round ends inside item 1"
    assert calls == [2, 4, 6], "not after the last item"


def simulated(queue: Queue, root: Path) -> Simulated:
    uids = queue.items.column("uid")
    votes = [[1, 1, 1]] * (len(uids) - 1) + [[0, 0, 0]]
    pq.write_table(pa.table({"uid": uids, "votes": votes}), root / "votes.parquet")
    return Simulated(distribution=str(root / "votes.parquet"))


@pytest.mark.slow
def test_a_killed_loop_continues_to_the_same_answers(tmp_path: Path) -> None:
    whole, killed = (make_queue(tmp_path / name, budget=20) for name in ("a", "b"))
    annotate(whole, simulated(whole, tmp_path / "a"))

    class Killed(BaseException):
        pass

    annotator = simulated(killed, tmp_path / "b")
    for _ in range(30):
        left = [3]

        def tick(n: int, left: list[int] = left) -> None:
            left[0] -= 1
            if not left[0]:
                raise Killed

        try:
            annotate(killed, annotator, tick=tick)
        except Killed:
            continue
    answers = [
        [(one.item, one.reviewer, one.record.label) for item in range(12) for one in sorted(queue.answers_of(item))]
        for queue in (whole, killed)
    ]
    assert answers[0] == answers[1]
    assert status_of(whole).spent == len(answers[0]) == 20
    assert not verify_queue(killed, pictures=False).findings


def test_votes_that_are_none_leave_their_item_open(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, budget=1000)
    found = annotate(queue, simulated(queue, tmp_path))
    assert [(one.item, one.reason) for one in found.findings] == [(11, "no_votes")]
    status = status_of(queue)
    assert status.open == 1 and status.answered == 11


def test_other_answers_under_the_annotators_names_are_an_error(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, budget=20)
    queue.record(queue.answer("undo", 0, "simulated-1", 1))
    with pytest.raises(UserError, match="item 0 has another answer of simulated-1"):
        annotate(queue, simulated(queue, tmp_path))


def test_every_line_with_a_figure_names_the_annotators(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, budget=20)
    annotate(queue, simulated(queue, tmp_path))
    lines = list(report_lines(Simulated.about, status_of(queue)))
    assert lines and all("simulated annotators" in line for line in lines if any(map(str.isdigit, line)))
