"""The contract of all annotators, and the votes that are no votes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.annotators import ANNOTATORS, Annotator, Ask, Question
from curation.annotators.recorded import Recorded
from curation.annotators.simulated import Simulated
from curation.core.errors import ReasonError, UserError

CLASSES = ["cat", "dog", "owl"]
UIDS = [f"{n:032x}" for n in range(6)]


def table(path: Path, **columns: Any) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


@pytest.fixture
def given(tmp_path: Path) -> dict[str, dict[str, str]]:
    """Settings of every annotator that can be asked."""
    votes = table(tmp_path / "votes.parquet", uid=UIDS, votes=[[n, 3, 6 - n] for n in range(6)])
    return {"recorded": {"votes": votes}, "simulated": {"distribution": votes}}


def reason(ask: Ask, uid: str, n: int = 1) -> str:
    with pytest.raises(ReasonError) as caught:
        ask(Question(0, uid, n))
    return caught.value.reason


@pytest.mark.parametrize("name", ANNOTATORS)
def test_contract(name: str, given: dict[str, dict[str, str]]) -> None:
    """A reply is a function of the settings and the question; its reviewer differs from all others' of the item."""
    if name == "people":
        with pytest.raises(UserError, match="on the page"):
            ANNOTATORS[name]().open(CLASSES, UIDS)
        return
    questions = [Question(item, uid, n) for item, uid in enumerate(UIDS) for n in range(1, 6)]
    annotator: Annotator = ANNOTATORS[name](**given[name], seed=3)
    ask, again = annotator.open(CLASSES, UIDS), annotator.open(CLASSES, UIDS[::-1])
    replies = [ask(question) for question in questions]
    assert [again(question) for question in reversed(questions)] == replies[::-1]
    assert len({(question.item, reply.reviewer) for question, reply in zip(questions, replies, strict=True)}) == 30
    assert {reply.label for reply in replies} <= set(CLASSES)
    other = ANNOTATORS[name](**given[name], seed=4).open(CLASSES, UIDS)
    assert [other(question) for question in questions] != replies
    assert annotator.about in ("recorded votes", "simulated annotators")


def test_recorded_votes_are_each_used_once(given: dict[str, dict[str, str]]) -> None:
    ask = Recorded(**given["recorded"]).open(CLASSES, UIDS)
    assert Counter(ask(Question(0, UIDS[2], n)).label for n in range(1, 10)) == {"cat": 2, "dog": 3, "owl": 4}
    assert reason(ask, UIDS[2], 10) == "votes_exhausted"


def test_names_keep_their_order(tmp_path: Path) -> None:
    ask = Recorded(votes=table(tmp_path / "v", uid=UIDS[:1], votes=[["owl", "cat", "owl"]])).open(CLASSES, UIDS)
    assert [ask(Question(0, UIDS[0], n)).label for n in (1, 2, 3)] == ["owl", "cat", "owl"]


@pytest.mark.parametrize("form", ["list", "columns"])
@pytest.mark.parametrize("kind", [Recorded, Simulated])
def test_votes_that_are_none(form: str, kind: type[Any], tmp_path: Path) -> None:
    rows = [[1, -1, 3], [0, 0, 0], [None, 1, 1], [2, 0, 1]]
    columns = {"votes": rows} if form == "list" else dict(zip(CLASSES, zip(*rows, strict=True), strict=True))
    url = table(tmp_path / "v", uid=UIDS[:4], **columns)
    ask = kind(**{"votes" if kind is Recorded else "distribution": url}).open(CLASSES, UIDS)
    found = [reason(ask, uid) for uid in (*UIDS[:3], UIDS[5])]
    assert found == ["negative_votes", "no_votes", "negative_votes", "no_votes"]
    assert ask(Question(3, UIDS[3], 1)).label in ("cat", "owl")


def test_names_that_are_no_votes(tmp_path: Path) -> None:
    votes = pa.array([[], ["horse"], None], pa.list_(pa.string()))
    ask = Recorded(votes=table(tmp_path / "v", uid=UIDS[:3], votes=votes)).open(CLASSES, UIDS)
    assert [reason(ask, uid) for uid in UIDS[:3]] == ["no_votes", "unknown_class", "no_votes"]


def test_halves_are_no_recorded_votes(tmp_path: Path) -> None:
    ask = Recorded(votes=table(tmp_path / "v", uid=UIDS[:1], votes=[[0.5, 0.5, 0]])).open(CLASSES, UIDS)
    assert reason(ask, UIDS[0]) == "negative_votes"


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"votes": [[1, 2]]}, "2 numbers, and the queue has 3 classes"),
        ({"votes": [5]}, "not a list"),
        ({"cat": [1], "dog": [1]}, "no column for the class 'owl'"),
    ],
)
def test_tables_that_do_not_fit(columns: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=text):
        Recorded(votes=table(tmp_path / "v", uid=UIDS[:1], **columns)).open(CLASSES, UIDS)


def test_tables_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"PAR1")
    for url in (tmp_path / "gone", tmp_path / "x", table(tmp_path / "y", votes=[[1, 1, 1]])):
        with pytest.raises(UserError):
            Recorded(votes=str(url)).open(CLASSES, UIDS)
    double = table(tmp_path / "z", uid=UIDS[:1] * 2, votes=[[1, 1, 1]] * 2)
    with pytest.raises(UserError, match="two rows"):
        Recorded(votes=double).open(CLASSES, UIDS)


def test_simulated_labels_follow_their_distribution(tmp_path: Path) -> None:
    url = table(tmp_path / "v", uid=UIDS[:1], votes=[[0.5, 0.3, 0.2]])
    ask = Simulated(distribution=url).open(CLASSES, UIDS)
    counts = Counter(ask(Question(0, UIDS[0], n)).label for n in range(1, 4001))
    assert np.allclose([counts[name] / 4000 for name in CLASSES], [0.5, 0.3, 0.2], atol=0.03)


def test_a_confusion_matrix(tmp_path: Path) -> None:
    confusion = table(tmp_path / "c", label=CLASSES, cat=[1.0, 0, 0], dog=[0.0, 0, 1], owl=[0.0, 1, 0])
    truth = table(tmp_path / "t", uid=UIDS[:3], label=CLASSES)
    ask = Simulated(confusion=confusion, truth=truth).open(CLASSES, UIDS)
    assert [ask(Question(0, uid, 1)).label for uid in UIDS[:3]] == ["cat", "owl", "dog"]
    assert reason(ask, UIDS[4]) == "no_votes"
    bad = table(tmp_path / "b", label=CLASSES, cat=[1.0, 0, 0], dog=[0.0, 0, 1], owl=[0.0, -1, 0])
    with pytest.raises(UserError, match="not a distribution"):
        Simulated(confusion=bad, truth=truth).open(CLASSES, UIDS)


@pytest.mark.parametrize("fields", [{}, {"distribution": "a", "confusion": "b", "truth": "c"}, {"confusion": "b"}])
def test_one_form_of_simulation(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="either"):
        Simulated(**fields)
