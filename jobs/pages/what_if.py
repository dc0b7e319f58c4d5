"""The page of `curate what-if --html`: yields, keep rates, shifts, borderline samples and groups of each setting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobs.pages.groups import groups_section
from jobs.pages.rendering import SampleReading, render

if TYPE_CHECKING:
    from curation.curating.what_if import WhatIfAnswer


def page(
    recipe: str, answers: Sequence[WhatIfAnswer], unscored: int, look: SampleReading | None = None, *,
    unreadable: int = 0,
) -> str:  # fmt: skip
    """Return the page of the answers to one recipe's settings.

    `unscored`, `unreadable`: numbers of shards without scores, and of shards that the store refuses to return.
    `look`: reads the samples of the largest groups; without it, the page has no groups.
    """
    sections = [
        groups_section([group.to_json() for group in answer.groups], answer.samples["seen"], look)
        if look and answer.groups
        else None
        for answer in answers
    ]
    return render(
        "what_if.html", recipe=recipe, answers=answers, unscored=unscored, unreadable=unreadable, sections=sections
    )
