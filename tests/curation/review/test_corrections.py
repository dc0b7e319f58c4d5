"""Corrections: the edits that answers ask for."""

from __future__ import annotations

import json
from pathlib import Path

from review_queues import answer, make_queue

from curation.ledger.edit_lists import read_edit_list, write_edit_list
from curation.review.corrections import corrections


def test_edits_are_the_labels_that_change(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, changes={4: {"label": None}, 5: {"label": "horse"}})
    for item, label in ((0, "cat"), (1, "owl"), (2, "?"), (3, "dog"), (4, "dog"), (5, "cat")):
        answer(queue, item, "ann", label)
    answer(queue, 1, "bob", "owl")
    edits, status = corrections(queue)
    uids = queue.items.column("uid").to_pylist()
    fields = [(row["uid"], row["value"], row["from"]) for row in edits.to_pylist()]
    assert fields == [(uids[1], '"owl"', '"dog"'), (uids[4], '"dog"', None), (uids[5], '"cat"', '"horse"')]
    assert set(edits.column("verb").to_pylist()) == {"replace"} and set(edits.column("field").to_pylist()) == {"label"}
    assert set(edits.column("at_run").to_pylist()) == {queue.sha256}
    assert status.changed == len(edits) and status.tied == 1
    write_edit_list(str(tmp_path / "edits.parquet"), edits)
    assert read_edit_list(str(tmp_path / "edits.parquet")).table.num_rows == 3


def test_votes_are_a_label(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, 3, changes={0: {"label": {"dog": 2, "cat": 3}}}, current_votes=0)
    assert queue.labels[0] == "cat"
    answer(queue, 0, "ann", "dog")
    (edit,) = corrections(queue)[0].to_pylist()
    assert (json.loads(edit["value"]), json.loads(edit["from"])) == ("dog", {"dog": 2, "cat": 3})


def test_labels_that_are_numbers_stay_numbers(tmp_path: Path) -> None:
    changes = {item: {"label": item % 3} for item in range(6)}
    queue = make_queue(tmp_path, 6, classes=(), changes=changes, current_votes=0)
    assert queue.document.classes == ["0", "1", "2"]
    answer(queue, 1, "ann", "2")
    (edit,) = corrections(queue)[0].to_pylist()
    assert (json.loads(edit["value"]), json.loads(edit["from"])) == (2, 1)
