"""Annotators: who answers a review queue.

An annotator is a frozen dataclass whose fields are its configuration. `open` loads what it needs for a queue's classes
and samples, and returns a function from a question to a reply. `people` answer on the page; `recorded` votes and
`simulated` ones are for queues whose answers exist already, and for benches. To add an annotator, write a file in this
folder and add its class to `ANNOTATORS`.
"""

from __future__ import annotations

from curation.annotators.annotator import Annotator, Ask, Question, Reply
from curation.annotators.people import People
from curation.annotators.recorded import Recorded
from curation.annotators.simulated import Simulated

__all__ = [
    "ANNOTATORS",
    "Annotator",
    "Ask",
    "Question",
    "Reply",
    "attribution",
    "true_labels",
]

#: name -> dataclass. The contract test comes from this table.
ANNOTATORS: dict[str, type[Annotator]] = {
    "people": People,
    "recorded": Recorded,
    "simulated": Simulated,
}
