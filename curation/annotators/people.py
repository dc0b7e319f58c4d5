"""Reviewers in front of the page. They answer when they like, so a loop can't ask them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from curation.annotators.annotator import Ask
from curation.annotators.attribution import ABOUT
from curation.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class People:
    """Reviewers who answer on the page of `curate review serve`, or through an export and an import.

    When to use: always, if the truth is not known. Cost: 3 to 5 seconds of a reviewer an answer.
    Example: people: {}
    """

    about: ClassVar[str] = ABOUT["people"]

    def open(self, classes: Sequence[str], uids: Sequence[str]) -> Ask:
        """Raise `UserError`: people can't be asked from a loop."""
        fix = "start the page: curate review serve QUEUE"
        raise UserError("people answer on the page, or through an export and an import", fix=fix)
