"""Who answered: the kind of annotator behind a reviewer's name, and the words that every figure of a report carries.

Recorded and simulated annotators answer as `recorded-<n>` and `simulated-<n>`; every other name is a person's. A figure
that rests on simulated answers must never be taken for one of people, so `attributed` puts the words into each line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

Kind = Literal["people", "recorded", "simulated"]

#: Kind of annotator -> what a report calls it.
ABOUT: dict[Kind, str] = {
    "people": "reviewers",
    "recorded": "recorded votes",
    "simulated": "simulated annotators",
}
_NAME = re.compile(r"(recorded|simulated)-[1-9][0-9]*")


def reviewer_of(kind: Literal["recorded", "simulated"], n: int) -> str:
    """Return the reviewer's name of an annotator's n-th answer to an item."""
    return f"{kind}-{n}"


def kind_of(reviewer: str) -> Kind:
    """Return the kind of annotator that answers under a name."""
    found = _NAME.fullmatch(reviewer)
    if found is None:
        return "people"
    return "recorded" if found[1] == "recorded" else "simulated"


def who_answered(reviewers: Iterable[str]) -> str:
    """Return what each figure must say of the answers' origin; "" where people alone answered, or nobody.

    A queue with answers of several kinds names all of them, simulated annotators first.
    """
    kinds = {kind_of(reviewer) for reviewer in reviewers}
    if kinds <= {"people"}:
        return ""
    return " and ".join(ABOUT[kind] for kind in reversed(ABOUT) if kind in kinds)


def attributed(about: str, lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a report, each with the words of `who_answered` in front."""
    return (f"{about}: {line}" if about else line for line in lines)
