"""Exports and imports: what goes out comes back once, however often; every bad row is a finding and changes nothing."""

from __future__ import annotations

import csv
import io
import json
from base64 import b64decode
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from builders import picture
from review_queues import CLASSES, answer, make_queue

from curation.core.errors import UserError
from curation.review.answer_csv import csv_lines, parse_csv
from curation.review.imports import import_answers
from curation.review.label_studio import labelling_config, parse_tasks, task_lines
from curation.review.queue import Queue
from curation.review.status import status_of


def filled(queue: Queue, *answers: tuple[int, str, str]) -> bytes:
    """The CSV export with these rows filled in: item, reviewer, answer."""
    rows = list(csv.DictReader(io.StringIO("".join(csv_lines(queue, [item for item, _, _ in answers])))))
    for row, (_, reviewer, label) in zip(rows, answers, strict=True):
        row |= {"reviewer": reviewer, "answer": label} if label != "?" else {"reviewer": reviewer, "cannot_tell": "yes"}
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def studio(queue: Queue, *answers: tuple[int, object, str]) -> bytes:
    """The tasks of the export with one annotation each."""
    tasks = json.loads("".join(task_lines(queue, [item for item, _, _ in answers], pictures=False)))
    for task, (_, user, label) in zip(tasks, answers, strict=True):
        choice = {"type": "choices", "from_name": "label", "to_name": "image", "value": {"choices": [label]}}
        task["annotations"] = [{"completed_by": user, "created_at": "2026-11-30T12:00:00Z", "result": [choice]}]
        if label == "?":
            task["annotations"][0] |= {"was_cancelled": True, "result": []}
    return json.dumps(tasks).encode()


@pytest.mark.parametrize("kind", ["csv", "label-studio"])
def test_a_repeated_import_records_nothing(kind: str, tmp_path: Path) -> None:
    queue = make_queue(tmp_path)
    rows = ((0, "ann@x.org", "cat"), (1, "ann@x.org", "owl"), (1, "bob@x.org", "owl"), (2, "ann@x.org", "?"))
    if kind == "csv":
        data, parse = filled(queue, *rows), parse_csv
    else:
        data, parse = (
            studio(queue, *((item, {"id": 3, "email": name}, label) for item, name, label in rows)),
            parse_tasks,
        )
    planned = import_answers(queue, parse(data), dry_run=True)
    assert planned.created == 4 and status_of(queue).spent == 0
    first, second = (import_answers(queue, parse(data)) for _ in range(2))
    assert (first.created, first.repeated, first.findings) == (4, 0, [])
    assert (second.created, second.repeated, second.findings) == (0, 4, [])
    status = status_of(queue)
    assert (status.answered, status.refused, status.spent, status.changed) == (2, 1, 4, 1)
    assert status.reviewers == {"ann@x.org": 3, "bob@x.org": 1}


def test_an_import_beside_answers_of_the_page(tmp_path: Path) -> None:
    queue = make_queue(tmp_path)
    for item in range(3):
        answer(queue, item, "ann", "owl")
    answer(queue, 1, "ann", "undo", 2)
    answer(queue, 2, "ann", "undo", 2)
    answer(queue, 2, "ann", "dog", 3)
    data = filled(queue, (0, "Ann", "dog"), (1, "Ann", "dog"), (2, "Ann", "dog"), (3, "Ann", "dog"))
    found = import_answers(queue, parse_csv(data))
    assert (found.created, found.repeated) == (2, 1), "item 1 was free again, and item 2 has this answer"
    assert [(one.item, one.reason) for one in found.findings] == [(0, "answered_twice")]
    again = import_answers(queue, parse_csv(data))
    assert (again.created, again.repeated, len(again.findings)) == (0, 3, 1)
    assert not status_of(queue).findings


def test_bad_rows_are_findings(tmp_path: Path) -> None:
    queue = make_queue(tmp_path)
    good = filled(queue, (0, "ann", "cat")).decode().splitlines()
    sha = queue.sha256
    bad = [
        f"1,{'b' * 64},,,,,,,ann,cat,,",
        f"99,{sha},,,,,,,ann,cat,,",
        f"2,{sha},,,,,,,ann,horse,,",
        f"3,{sha},,,,,,,../x,cat,,",
        f"4,{sha},,,,,,,ann,cat,yes,",
        f"-1,{sha},,,,,,,ann,cat,,",
        "5,,,,,,,,ann,cat,,",
        f"0,{sha},,,,,,,ann,dog,,",
    ]  # fmt: skip
    found = import_answers(queue, parse_csv("\r\n".join([*good, *bad]).encode()))
    assert found.created == 1
    reasons = [(one.item, one.reason) for one in found.findings]
    assert sorted(reasons, key=str) == sorted(
        [(1, "foreign_queue"), (99, "unknown_item"), (2, "unknown_class"), (3, "bad_answer"), (4, "bad_answer"),
         (None, "bad_answer"), (5, "foreign_queue"), (0, "answered_twice")], key=str,
    )  # fmt: skip
    assert status_of(queue).spent == 1


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"\xff\xfe", "not UTF-8"), (b"a,b\n1,2\n", "has no column"), (b'item,queue,reviewer,answer\n"1,2', "not CSV")],
)
def test_files_that_are_no_csv(data: bytes, text: str) -> None:
    with pytest.raises(UserError, match=text):
        list(parse_csv(data))


@pytest.mark.parametrize("data", [b"{", b'{"a": 1}', b'[{"a": 1, "a": 2}]', b"[NaN]"])
def test_files_that_are_no_tasks(data: bytes) -> None:
    with pytest.raises(UserError):
        list(parse_tasks(data))


@pytest.mark.parametrize(
    "task",
    [1, {}, {"data": []}, {"data": {"item": True}}, {"data": {"item": 0}, "annotations": [{"result": []}]},
     {"data": {"item": 0}, "annotations": [{"result": [{"type": "choices", "value": {"choices": ["cat", "dog"]}}]}]}],
)  # fmt: skip
def test_tasks_that_are_no_answers(task: object) -> None:
    assert [getattr(found, "reason", None) for found in parse_tasks(json.dumps([task]).encode())] == ["bad_answer"]


def test_a_spreadsheet_runs_no_formula(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, 3, changes={0: {"caption": '=HYPERLINK("http://x")', "label": "=1+1"}})
    (row, *_) = csv.DictReader(io.StringIO("".join(csv_lines(queue, [0]))))
    assert row["caption"] == '\'=HYPERLINK("http://x")' and row["current_label"] == "'=1+1"


def test_tasks_show_the_picture_and_escape_class_names(tmp_path: Path) -> None:
    classes = (*CLASSES, '"><script>', "a & b")
    queue = make_queue(tmp_path, 3, classes=classes, changes={1: {"image": picture(0, "png")[:50]}})
    tasks = json.loads("".join(task_lines(queue, range(3))))
    head, _, text = tasks[0]["data"]["image"].partition(",")
    assert head == "data:image/png;base64"
    pixels = cv2.imdecode(np.frombuffer(b64decode(text), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(pixels, cv2.imdecode(np.frombuffer(picture(0, "png", 24), np.uint8), cv2.IMREAD_COLOR))
    assert tasks[1]["data"]["image"] == "" and tasks[1]["data"]["problem"].startswith("image_")
    values = [choice.get("value") for choice in ElementTree.fromstring(labelling_config(classes)).iter("Choice")]
    assert values == list(classes)
