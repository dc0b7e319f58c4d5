"""Verify and status: counts that hold at every moment, and a finding for every kind of bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from review_queues import CLASSES, answer, make_queue

from curation.core.digest import canonical
from curation.review.queue import Queue, open_queue
from curation.review.status import status_of
from curation.review.verification import verify_queue


def reasons(queue: Queue) -> list[tuple[int | None, str]]:
    return [(finding.item, finding.reason) for finding in verify_queue(queue).findings]


@pytest.mark.slow
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_open_answered_and_refused_add_up_after_every_answer(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    queue = make_queue(tmp_path_factory.mktemp("q"), 4)
    numbers: dict[tuple[int, str], int] = {}
    steps = st.tuples(st.integers(0, 3), st.sampled_from("ab"), st.sampled_from([*CLASSES, "?", "undo", "horse"]))
    for item, reviewer, label in data.draw(st.lists(steps, max_size=12)):
        numbers[item, reviewer] = n = numbers.get((item, reviewer), 0) + 1
        assert answer(queue, item, reviewer, label, n) == "created"
        status = status_of(queue)
        assert status.open + status.answered + status.refused == status.items == 4
        assert status.spent <= sum(numbers.values())
        assert status.changed + status.confirmed == status.answered


def test_a_sound_queue_has_no_findings(tmp_path: Path) -> None:
    queue = make_queue(tmp_path)
    answer(queue, 0, "ann", "cat")
    answer(queue, 1, "ann", "owl")
    answer(queue, 1, "bob", "owl")
    answer(queue, 2, "ann", "?")
    found = verify_queue(queue)
    assert not found.findings
    status = found.to_json()
    assert status["answered"] == 2 and status["refused"] == 1 and status["open"] == 9 and status["spent"] == 4
    assert status["confirmed"] == status["changed"] == 1 and status["reviewers"] == {"ann": 3, "bob": 1}


def test_bad_samples_are_found_and_stay_open(tmp_path: Path) -> None:
    bad = picture(1, "png")[:60]
    changes = {1: {"label": None}, 2: {"image": bad}, 3: {"label": "horse"}, 4: {"label": ["cat"]}}
    queue = make_queue(tmp_path, changes=changes)
    found = reasons(queue)
    assert found[0] == (1, "missing_label") and found[1][0] == 2 and found[1][1].startswith("image_")
    assert found[2:] == [(3, "unknown_class"), (4, "missing_label")]
    assert status_of(queue).open == 12
    answer(queue, 1, "ann", "cat")  # a label for a sample without one needs no second reviewer
    status = status_of(queue)
    assert status.answered == status.changed == 1


def test_bad_records_are_found_and_have_no_effect(tmp_path: Path) -> None:
    queue = make_queue(tmp_path)
    folder = tmp_path / "queue/answers/00000"
    answer(queue, 0, "ann", "horse")
    answer(queue, 1, "ann", "dog")
    answer(queue, 1, "ann", "owl", 2)
    fields = {"kind": "label", "item": 2, "reviewer": "ann", "n": 1, "queue": "f" * 64, "label": "owl"}
    for item, text in ((2, canonical(fields)), (3, b"{"), (4, canonical({**fields, "item": 4, "label": None}))):
        (folder / f"{item:08d}").mkdir(parents=True)
        (folder / f"{item:08d}" / "ann-1.json").write_bytes(text)
    (folder / "00000005").mkdir()
    (folder / "00000005" / "Ann.json").write_bytes(b"{}")
    answer(queue, 99, "ann", "cat")
    assert reasons(queue) == [
        (0, "unknown_class"), (1, "answered_twice"), (2, "foreign_queue"), (3, "bad_answer"), (4, "bad_answer"),
        (None, "bad_answer"), (None, "bad_answer"),
    ]  # fmt: skip
    status = status_of(queue)
    assert status.open == 11 and status.confirmed == status.spent == 1, "the first answer to item 1 counts"


def test_a_deleted_answer_is_found(tmp_path: Path) -> None:
    queue = make_queue(tmp_path)
    answer(queue, 0, "ann", "dog")
    answer(queue, 0, "ann", "undo", 2)
    (tmp_path / "queue/answers/00000/00000000/ann-1.json").unlink()
    assert reasons(queue) == [(0, "lost_answer"), (0, "no_answer_to_undo")]


def test_samples_that_changed_since_the_build(tmp_path: Path) -> None:
    make_queue(tmp_path)
    (tmp_path / "corpus/00000.tar").write_bytes(b"x" * 4096)
    assert set(reasons(open_queue(str(tmp_path / "queue")))) == {(item, "missing_sample") for item in range(12)}
    assert not verify_queue(open_queue(str(tmp_path / "queue")), pictures=False).findings


def test_the_document_is_plain_json(tmp_path: Path) -> None:
    make_queue(tmp_path)
    document = json.loads((tmp_path / "queue/queue.json").read_text())
    assert document["classes"] == list(CLASSES) and document["items"]["rows"] == 12
