"""Votes: when an item is answered, compared with a definition in plain Python; records that have no effect."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.review.documents import AnswerRecord, QueueDocument, answer_key
from curation.review.votes import ItemVotes, StoredAnswer, fold

SHA = "a" * 64
DOCUMENT = QueueDocument.model_validate(
    {
        "kind": "review_queue", "version": 1, "budget": 10, "classes": ["cat", "dog", "owl"], "label": "label",
        "current_votes": 1, "ranking": {"by": "doubt", "recipe_sha256": SHA}, "corpus": "file:///x", "limits": {},
        "items": {"key": f"items-{SHA}.parquet", "sha256": SHA, "bytes": 1, "rows": 5},
    }
)  # fmt: skip


def stored(
    reviewer: str, n: int, kind: str, label: str | None = None, *, item: int = 0, sha: str = SHA
) -> StoredAnswer:
    fields = {"kind": kind, "item": item, "reviewer": reviewer, "n": n, "queue": sha}
    record = AnswerRecord.model_validate(fields if label is None else {**fields, "label": label})
    return StoredAnswer(item, reviewer, n, answer_key(item, reviewer, n), record)


def leading(labels: list[str], current: str | None) -> str | None:
    """The definition: the class with strictly more votes than every other."""
    if not labels:
        return None
    votes = Counter(labels + ([current] if current else []))
    ahead = [name for name in votes if all(votes[name] > votes[other] for other in votes if other != name)]
    return ahead[0] if ahead else None


@given(st.lists(st.sampled_from(["cat", "dog", "owl"]), max_size=6), st.sampled_from([None, "cat", "dog"]))
def test_the_leader_is_the_class_strictly_ahead(labels: list[str], current: str | None) -> None:
    votes = ItemVotes(labels={f"r{n}": label for n, label in enumerate(labels)})
    assert votes.leader(current, 1) == leading(labels, current)
    assert votes.leader(current, 0) == leading(labels, None)


@pytest.mark.parametrize(
    ("labels", "state"),
    [
        ([], "open"),
        (["cat"], "answered"),  # confirms the current label
        (["dog"], "open"),  # one against one
        (["dog", "dog"], "answered"),
        (["dog", "owl"], "open"),
        (["?"], "refused"),
        (["?", "dog"], "refused"),
        (["?", "cat"], "answered"),
    ],
)
def test_states(labels: list[str], state: str) -> None:
    answers = [
        stored(f"r{n}", 1, "cannot_tell") if label == "?" else stored(f"r{n}", 1, "label", label)
        for n, label in enumerate(labels)
    ]
    votes, findings = fold(DOCUMENT, SHA, answers)
    assert votes.state("cat", 1) == state and not findings
    assert votes.spent == len(labels)


def test_an_undo_costs_nothing_and_opens_the_item_again() -> None:
    answers = [stored("ann", 1, "label", "dog"), stored("ann", 2, "undo"), stored("ann", 3, "label", "cat")]
    votes, findings = fold(DOCUMENT, SHA, answers[:2])
    assert votes.state("cat", 1) == "open" and votes.spent == 0 and not findings
    for order in permutations(answers):
        votes, findings = fold(DOCUMENT, SHA, order)
        assert votes.labels == {"ann": "cat"} and votes.spent == 1 and not findings


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([stored("ann", 1, "label", "cat", sha="b" * 64)], "foreign_queue"),
        ([stored("ann", 1, "label", "horse")], "unknown_class"),
        ([stored("ann", 1, "label", "cat"), stored("ann", 2, "label", "dog")], "answered_twice"),
        ([stored("ann", 1, "cannot_tell"), stored("ann", 2, "label", "dog")], "answered_twice"),
        ([stored("ann", 1, "undo")], "no_answer_to_undo"),
        ([stored("ann", 2, "label", "cat")], "lost_answer"),
        ([stored("ann", 1, "label", "cat", item=7)], "unknown_item"),
        ([StoredAnswer(0, "ann", 1, "x", None, "it is empty")], "bad_answer"),
        ([stored("ann", 1, "label", "cat")._replace(item=1)], "bad_answer"),
    ],
)
def test_flaws(answers: list[StoredAnswer], reason: str) -> None:
    votes, findings = fold(DOCUMENT, SHA, answers)
    assert [finding.reason for finding in findings] == [reason]
    assert votes.labels in ({}, {"ann": "cat"})
    if len(answers) == 1 and reason != "lost_answer":
        assert votes.state("cat", 1) == "open"
