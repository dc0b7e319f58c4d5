"""The facts of a report, by hand: 6 items, two reviewers, one truth unknown."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from review_queues import answer, empty_queue, make_queue

from curation.annotators.true_labels import TrueLabels
from curation.review.documents import answer_key
from curation.review.queue import Queue
from curation.review.report import MOST_CORRECTIONS, MOST_FINDINGS, report_of
from curation.review.report_facts import NO_CLASS

TRUTH = ["dog", "dog", "cat", "cat", "owl"]  # of items 0 to 4; labels are cat, dog, owl, cat, dog, owl


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    found = make_queue(tmp_path, 6, budget=20)
    for reviewer in ("ann", "bob"):
        answer(found, 0, reviewer, "dog")  # fixed
        answer(found, 1, reviewer, "owl")  # made worse
    answer(found, 2, "ann", "owl")  # confirmed, and wrong
    answer(found, 3, "ann", "?")  # refused; the label is right
    answer(found, 4, "ann", "cat")  # one to one: open
    answer(found, 5, "ann", "cat")
    answer(found, 5, "bob", "dog")  # one to one to one: open, truth unknown
    return found


def truth_of(queue: Queue) -> TrueLabels:
    uids = queue.items.column("uid").to_pylist()
    return TrueLabels(dict(zip(uids, TRUTH, strict=False)), {"tied_votes": 1})


def test_without_truth(queue: Queue) -> None:
    found = report_of(queue)
    assert found.outcomes == {"changed": 2, "confirmed": 1, "open": 2, "refused": 1}
    assert found.judgements is None and found.curve is None and found.known == 0
    assert found.classes == {
        "cat": {"items": 2, "changed": 1, "confirmed": 0, "open": 0, "refused": 1},
        "dog": {"items": 2, "changed": 1, "confirmed": 0, "open": 1, "refused": 0},
        "owl": {"items": 2, "changed": 0, "confirmed": 1, "open": 1, "refused": 0},
    }
    assert found.cost == {"changed": 4.5} and found.status.spent == 9 and found.kinds == {"people": 9}
    assert found.annotators == "" and found.examples == []


def test_with_truth(queue: Queue) -> None:
    found = report_of(queue, truth_of(queue))
    assert found.judgements == {"fixed": 1, "worse": 1, "left": 2, "right": 1}
    assert found.known == 5 and found.correct == (2, 2) and found.truth_flaws == {"tied_votes": 1}
    assert found.cost == {"changed": 4.5, "corrected": None}, "as many were fixed as were made worse"
    assert found.classes["dog"] == {
        **{"items": 2, "changed": 1, "confirmed": 0, "open": 1, "refused": 0},
        **{"fixed": 0, "worse": 1, "left": 1, "right": 0},
    }
    assert found.curve is not None
    assert [point.correct for point in found.curve.points] == [2, 2, 3, 3, 2, 2, 2, 2, 2, 2]
    assert found.curve.slope == 0 and found.curve.known == 5


def test_by_reviewer(queue: Queue) -> None:
    found = report_of(queue, truth_of(queue)).reviewers
    assert list(found) == ["ann", "bob"]
    assert asdict(found["ann"]) == {
        "annotator": "people", "labels": 5, "cannot_tell": 1, "decided": 3, "agreeing": 3, "judged": 4, "correct": 1,
    }  # fmt: skip
    assert asdict(found["bob"]) == {
        "annotator": "people", "labels": 3, "cannot_tell": 0, "decided": 2, "agreeing": 2, "judged": 2, "correct": 1,
    }  # fmt: skip


def test_agreement(queue: Queue) -> None:
    """Three items have two labels: 6 labels, of which 3 are dog, 2 owl and 1 cat; two of three pairs agree."""
    found = report_of(queue).agreement
    assert found.alpha == pytest.approx((5 * 4 - 8) / (6 * 5 - 8))
    assert (found.items, found.labels, found.reviewers) == (3, 6, 2)


def test_corrections_come_in_rank_order(queue: Queue) -> None:
    found = report_of(queue, truth_of(queue))
    assert [(one.item, one.before, one.after, one.truth) for one in found.corrections] == [
        (0, "cat", "dog", "dog"),
        (1, "dog", "owl", "dog"),
    ]
    assert found.corrections[0].votes == {"dog": 2} and found.corrections[0].caption == "thing 0"
    assert found.changes == {("cat", "dog"): 1, ("dog", "owl"): 1}


def test_the_highest_ranks_alone(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, 14, current_votes=0)
    for item in range(13, 0, -1):
        answer(queue, item, "ann", "owl" if item % 3 != 2 else "cat")
    found = report_of(queue)
    assert [one.item for one in found.corrections] == [*range(1, MOST_CORRECTIONS + 1)]
    assert found.outcomes["changed"] == 13 and found.cost["changed"] == 1


def test_damaged_records_are_findings(queue: Queue) -> None:
    before = report_of(queue, truth_of(queue))
    queue.store.put(answer_key(4, "eve", 1), b'{"kind": "lab')
    queue.store.put(answer_key(2, "ann", 2), b"\x00" * 100)
    answer(queue, 0, "eve", "horse")
    found = report_of(queue, truth_of(queue))
    assert found.status.findings == {"bad_answer": 2, "unknown_class": 1}
    assert [(one.item, one.reason) for one in found.examples] == [
        (0, "unknown_class"), (2, "bad_answer"), (4, "bad_answer"),
    ]  # fmt: skip
    assert found.judgements == before.judgements and found.status.spent == 9


def test_few_findings_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    queue = make_queue(tmp_path)
    for n in range(MOST_FINDINGS + 5):
        queue.store.put(answer_key(n % 12, f"eve{n}", 1), b"?")
    found = report_of(queue)
    assert len(found.examples) == MOST_FINDINGS and found.status.findings == {"bad_answer": MOST_FINDINGS + 5}


def test_labels_that_are_no_class(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, 6, changes={0: {"label": None}, 1: {"label": "horse"}, 2: {"label": "horse"}})
    answer(queue, 0, "ann", "cat")
    answer(queue, 1, "ann", "dog")
    uids = queue.items.column("uid").to_pylist()
    found = report_of(queue, TrueLabels({uids[0]: "cat", uids[1]: "horse", uids[2]: "horse"}))
    assert found.judgements == {"fixed": 1, "worse": 1, "left": 0, "right": 1}
    assert found.classes[NO_CLASS]["items"] == 3 and found.changes == {(NO_CLASS, "cat"): 1, (NO_CLASS, "dog"): 1}
    assert [one.before for one in found.corrections] == [None, "horse"]


@pytest.mark.parametrize("items", [0, 12])
def test_without_answers(items: int, tmp_path: Path) -> None:
    queue = make_queue(tmp_path) if items else empty_queue(tmp_path)
    found = report_of(queue, TrueLabels({}))
    assert found.outcomes == {"changed": 0, "confirmed": 0, "open": items, "refused": 0}
    assert found.agreement.alpha is None and found.cost == {"changed": None, "corrected": None}
    assert found.curve is not None and [tuple(point) for point in found.curve.points] == [(0, 0, None)]
    json.dumps(found.to_json(), allow_nan=False)


def test_answers_of_one_page_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record is read once, and a page's after the one before was counted."""
    monkeypatch.setattr("curation.review.queue.PAGE", 4)
    monkeypatch.setattr("curation.review.documents.PAGE", 4)
    queue = make_queue(tmp_path)
    for item in range(12):
        answer(queue, item, "ann", "cat")
    ticks: list[int] = []
    found = report_of(queue, tick=ticks.append)
    assert ticks == [4, 4, 4] and found.status.spent == 12
