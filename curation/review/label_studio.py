"""A queue as tasks of Label Studio, and its JSON export read again.

A task is self-contained: its picture is a data URI, because Label Studio can't read a range of a tar. The interface of
the project comes from `labelling_config`. An annotation that a user skipped (`was_cancelled`) means that the user can't
tell. Answers given elsewhere are not exported: Label Studio would return them under another name, and they would count
twice.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import Any
from xml.sax.saxutils import quoteattr

from curation.core.errors import ReasonError, UserError
from curation.core.parallel import map_ordered
from curation.ledger.documents import strict_json
from curation.review.findings import QueueFinding
from curation.review.imports import ForeignAnswer
from curation.review.pictures import shown_picture
from curation.review.queue import Queue
from curation.shards.sample_reader import SampleReader
from curation.storage.store import open_store

SIDE = 512  # pixels of an exported picture's longer side, at most
THREADS = 4
_FIX = "export the project from Label Studio as JSON (not JSON-MIN), with the tasks of `curate review export`"


def task_lines(queue: Queue, items: Iterable[int], *, pictures: bool = True) -> Iterator[str]:
    """Yield the lines of a JSON list of tasks, one an item. pictures: embed them; costs a ranged read each."""
    limits = queue.document.decoding
    with SampleReader(open_store(queue.document.corpus, queue.store.options)) as reader:

        def one(item: int) -> dict[str, Any]:
            row, image = queue.row(item), ""
            if pictures:
                try:
                    shown = shown_picture(reader, row, limits, SIDE)
                    image = f"data:{shown.media_type};base64,{b64encode(shown.data).decode()}"
                except ReasonError as error:
                    row["reason"] = error.reason
            return _task(queue, row, image)

        comma = ""
        yield "[\n"
        for task in map_ordered(one, items, THREADS, weigh=lambda task: len(task["data"]["image"])):
            yield comma + json.dumps(task, ensure_ascii=False)
            comma = ",\n"
        yield "\n]\n"


def _task(queue: Queue, row: dict[str, Any], image: str) -> dict[str, Any]:
    data = {
        "image": image, "caption": row["caption"], "current_label": row["label"] or "", "item": row["item"],
        "uid": row["uid"], "queue": queue.sha256, "problem": row["reason"] or "",
    }  # fmt: skip
    predictions = [
        {
            "model_version": queue.document.ranking.by,
            "score": best["probability"],
            "result": [
                {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [best["label"]]}}
            ],
        }
        for best in row["best"][:1]
    ]
    return {"data": data, "predictions": predictions}


def labelling_config(classes: Iterable[str]) -> str:
    """Return the labelling interface of a project: the picture, its caption and current label, one choice a class."""
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in classes)
    return (
        '<View>\n  <Image name="image" value="$image"/>\n  <Text name="caption" value="$caption"/>\n'
        '  <Header value="current label: $current_label"/>\n'
        f'  <Choices name="label" toName="image" choice="single" showInLine="true">\n{choices}\n  </Choices>\n</View>\n'
    )


def parse_tasks(data: bytes, reviewer: str = "") -> Iterator[ForeignAnswer | QueueFinding]:
    """Yield the answers of a JSON export. reviewer: of annotations that name none.

    Raises `UserError` for other JSON.
    """
    try:
        tasks = strict_json(data)
    except ValueError as error:
        raise UserError(f"the file is not JSON: {str(error)[:200]}", fix=_FIX) from None
    if not isinstance(tasks, list):
        raise UserError("the file is not a list of tasks", fix=_FIX)
    for number, task in enumerate(tasks):
        where = f"task {number}"
        fields = task.get("data") if isinstance(task, dict) else None
        item = fields.get("item") if isinstance(fields, dict) else None
        if not isinstance(fields, dict) or not isinstance(item, int) or isinstance(item, bool):
            yield QueueFinding(None, "bad_answer", "the task has no `data` with the number of an `item`", where)
            continue
        for annotation in _dictionaries(task.get("annotations")):
            yield from _answer(annotation, item, str(fields.get("queue") or ""), reviewer, where)


def _answer(
    annotation: dict[str, Any], item: int, queue: str, reviewer: str, where: str
) -> Iterator[ForeignAnswer | QueueFinding]:
    name, at = _reviewer(annotation.get("completed_by")) or reviewer, str(annotation.get("created_at") or "")
    if annotation.get("was_cancelled") is True:
        yield ForeignAnswer(item, queue, name, None, at, where)
        return
    chosen = [
        choice
        for result in _dictionaries(annotation.get("result"))
        if result.get("type") == "choices" and isinstance(result.get("value"), dict)
        for choice in result["value"].get("choices") or ()
    ]
    if len(chosen) == 1 and isinstance(chosen[0], str):
        yield ForeignAnswer(item, queue, name, chosen[0], at, where)
    else:
        yield QueueFinding(item, "bad_answer", f"the annotation of {name[:64]} has {len(chosen)} choices", where)


def _reviewer(value: Any) -> str:
    """Return the name of the user who completed an annotation: the e-mail address, or the number."""
    if isinstance(value, dict):
        value = value.get("email") or value.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        return f"user-{value}"
    return value if isinstance(value, str) else ""


def _dictionaries(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
