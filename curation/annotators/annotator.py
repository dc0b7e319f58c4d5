"""The protocol of an annotator: a question about an item, and the reply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, Protocol


class Question(NamedTuple):
    """A request for the n-th answer to an item, from 1. `uid`: its sample."""

    item: int
    uid: str
    n: int


class Reply(NamedTuple):
    """An answer. `label` is None if the reviewer can't tell. `reviewer`: a name that no other reply to the item has."""

    reviewer: str
    label: str | None


#: Answers a question. Raises `ReasonError` where there is no answer: the item stays open, for this reason.
Ask = Callable[[Question], Reply]


class Annotator(Protocol):
    """What `curation.review.rounds` requires of an annotator, a frozen dataclass whose fields are its configuration."""

    about: ClassVar[str]  # what begins each line of a report that has a figure, such as `simulated annotators`

    def open(self, classes: Sequence[str], uids: Sequence[str]) -> Ask:
        """Load what is known about these samples, and return what answers. Raises `UserError` for a bad table.

        The reply depends on the configuration and the question alone, not on the order of questions.
        """
        ...
