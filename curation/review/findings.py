"""Findings about a queue: the item, a reason code, and what was found. The item of a finding stays open."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

REASONS = {
    "missing_label": "the sample has no label, or not a text; reviewers can give it one",
    "unknown_class": "a label that is none of the queue's classes",
    "missing_sample": "the bytes of the sample are gone, changed, or not a sample",
    "image_*": "the picture can't be decoded; the code is the one of `curate run`",
    "foreign_queue": "an answer to another queue: its sha256 differs",
    "bad_item": "an item that contradicts its sample, or repeats another item",
    "unknown_item": "an item that the queue does not have",
    "answered_twice": "a second answer of one reviewer to one item; the first one counts",
    "bad_order": "an order of the items that is damaged, of another queue, or no permutation of its items",
    "bad_answer": "a record or a row that is damaged, or not where its fields say",
    "lost_answer": "an answer is missing: a later one of the same reviewer to the same item exists",
    "no_answer_to_undo": "an undo without an answer before it",
    "negative_votes": "a table of votes has a negative number, or not a number",
    "no_votes": "a table of votes has no vote for the item",
    "votes_exhausted": "all votes of the table were used, and no class is ahead",
}


@dataclass(frozen=True)
class QueueFinding:
    """A finding. `item`: its number, or None where the finding concerns no item. `where`: an object, or a row."""

    item: int | None
    reason: str
    detail: str
    where: str = ""

    def __str__(self) -> str:
        item = "queue" if self.item is None else f"item {self.item}"
        return f"{item}: {self.reason}: {self.detail}" + (f" ({self.where})" if self.where else "")

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON."""
        return asdict(self)
