"""What a queue's answers say: a `replace` edit for each item whose label they change, and the label of each."""

from __future__ import annotations

import json

import pyarrow as pa

from curation.core.progress import Tick
from curation.ledger.edit_lists import EDIT_SCHEMA
from curation.review.queue import Queue
from curation.review.status import QueueStatus, states

BY = "review"


def corrections(queue: Queue, tick: Tick = lambda n: None) -> tuple[pa.Table, QueueStatus]:
    """Return the edits (`EDIT_SCHEMA`), and the counts of the queue. One pass over the answers.

    An answered item whose label is another one, or missing, or none of the classes, gets the class that is ahead. A
    confirmed label, an open item and a refused one need no edit.
    """
    field, status = queue.document.label, QueueStatus(budget=queue.document.budget)
    uids = queue.items.column("uid")
    before = queue.items.column("label_json").to_pylist()
    numbers = any(text is not None and _is_number(text) for text in before)
    rows: list[tuple[str | None, ...]] = []
    for state in states(queue, tick):
        status.add(state)
        if state.winner is None or state.winner == state.current:
            continue
        value = state.winner if numbers and _is_number(state.winner) else json.dumps(state.winner, ensure_ascii=False)
        rows.append((uids[state.item].as_py(), "replace", field, value, before[state.item], BY, queue.sha256))
    columns = zip(*rows, strict=True) if rows else ([] for _ in EDIT_SCHEMA)
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=EDIT_SCHEMA), status


def verdicts(queue: Queue, tick: Tick = lambda n: None) -> dict[str, str]:
    """Return uid -> the class that is ahead, for every answered item: confirmed and corrected ones alike."""
    uids = queue.items.column("uid").to_pylist()
    return {uids[state.item]: state.winner for state in states(queue, tick) if state.winner is not None}


def _is_number(text: str) -> bool:
    """Whether a JSON text, or a class, is a whole number: labels that are numbers stay numbers."""
    return text.removeprefix("-").isdecimal() and text.isascii() and str(int(text)) == text
