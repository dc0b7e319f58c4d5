"""Import answers that were given elsewhere: each becomes a record, once, however often the import is repeated.

An answer that was imported before is `repeated`; one that can't be taken is a finding with its place in the file, and
changes nothing. Costs one put an answer; a listing of the item's answers only where the reviewer has another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from curation.core.errors import UserError
from curation.core.parallel import map_ordered
from curation.core.progress import Tick
from curation.review.documents import reviewer_name
from curation.review.findings import QueueFinding
from curation.review.queue import Queue
from curation.review.votes import fold

MOST_BYTES = 512 << 20  # of a file to import; it is held in memory
MOST_TIME = 40  # characters of an answer's time


class ForeignAnswer(NamedTuple):
    """An answer as a file has it. `label` is None for `cannot_tell`. `where`: its place in the file."""

    item: int
    queue: str
    reviewer: str
    label: str | None
    at: str
    where: str


@dataclass
class ImportResult:
    """What an import did: new records, answers that were there before, and findings."""

    created: int = 0
    repeated: int = 0
    findings: list[QueueFinding] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON."""
        found = [finding.to_json() for finding in self.findings]
        return {"created": self.created, "repeated": self.repeated, "findings": found}


def import_answers(
    queue: Queue, answers: Iterable[ForeignAnswer | QueueFinding], *, dry_run: bool = False,
    tick: Tick = lambda n: None,
) -> ImportResult:  # fmt: skip
    """Record answers from a file, as its reader yields them. dry_run: check them, and record nothing."""
    result = ImportResult()
    chosen: dict[tuple[int, str], ForeignAnswer] = {}
    for answer in answers:
        checked = _checked(queue, answer)
        if isinstance(checked, QueueFinding):
            result.findings.append(checked)
            continue
        first = chosen.setdefault((checked.item, checked.reviewer), checked)
        if first is not checked and first.label == checked.label:
            result.repeated += 1
        elif first is not checked:
            result.findings.append(_twice(checked))

    def put(answer: ForeignAnswer) -> str | QueueFinding:
        return "created" if dry_run else _put(queue, answer)

    for outcome in map_ordered(put, chosen.values()):
        tick(1)
        if isinstance(outcome, QueueFinding):
            result.findings.append(outcome)
        elif outcome == "created":
            result.created += 1
        else:
            result.repeated += 1
    return result


def _checked(queue: Queue, answer: ForeignAnswer | QueueFinding) -> ForeignAnswer | QueueFinding:
    """Return the answer with its reviewer's name as a key has it, or what is wrong with it."""
    if isinstance(answer, QueueFinding):
        return answer
    item, rows = answer.item, queue.document.items.rows
    if answer.queue != queue.sha256:
        text = f"it answers the queue {answer.queue[:16] or '(none)'!s}, not {queue.sha256[:16]}"
        return QueueFinding(item, "foreign_queue", text, answer.where)
    if not 0 <= item < rows:
        return QueueFinding(item, "unknown_item", f"the queue has items 0 to {rows - 1}", answer.where)
    if answer.label is not None and answer.label not in queue.document.classes:
        return QueueFinding(item, "unknown_class", f"{answer.label[:80]!r} is no class of the queue", answer.where)
    try:
        return answer._replace(reviewer=reviewer_name(answer.reviewer), at=answer.at[:MOST_TIME])
    except UserError as error:
        return QueueFinding(item, "bad_answer", str(error), answer.where)


def _put(queue: Queue, answer: ForeignAnswer) -> str | QueueFinding:
    """Record an answer under the reviewer's first free number, unless the reviewer has one in effect."""
    kind = "label" if answer.label is not None else "cannot_tell"
    number = 1
    while True:
        outcome = queue.record(queue.answer(kind, answer.item, answer.reviewer, number, answer.label, answer.at))
        if outcome != "taken":
            return outcome
        stored = queue.answers_of(answer.item)
        votes, _ = fold(queue.document, queue.sha256, stored)
        if votes.has(answer.reviewer):
            return "repeated" if votes.labels.get(answer.reviewer) == answer.label else _twice(answer)
        number = max(number, votes.last.get(answer.reviewer, 0)) + 1


def _twice(answer: ForeignAnswer) -> QueueFinding:
    text = f"{answer.reviewer} has another answer to this item; the first one counts"
    return QueueFinding(answer.item, "answered_twice", text, answer.where)
