"""Captions that the corpus repeats again and again: they tell of the page, not of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from curation.core.ranges import check_count
from curation.core.words import SPACE


@dataclass(frozen=True, kw_only=True)
class Boilerplate:
    """Drops every sample whose caption occurs more than `most` times among those that reach this filter.

    Captions that differ in case and white space only are the same ("Image  for post", "image for post"); samples
    without a caption are for the filter `caption`.
    Cost: one hash aggregation of 64 bits a caption, out of core; two captions of the same 64 bits would be counted
    together, which a billion captions have a chance of 3 % to do once. 2 us of CPU a sample. Source: counting; the rule
    of C4 (1910.10683) for repeated text, of whole captions.
    Example: boilerplate: {most: 100}
    """

    code: ClassVar[int] = 2

    most: int = 100

    def __post_init__(self) -> None:
        check_count("most", self.most, "it is how often a caption may occur", least=1)

    def columns(self) -> Sequence[str]:
        return ("caption",)

    def drops(self) -> str:
        return f"""
            WITH told AS (
                SELECT id, hash(words) AS words FROM (
                    SELECT id, trim(regexp_replace(lower(caption), '[{SPACE}]+', ' ', 'g')) AS words FROM alive
                ) WHERE words <> ''
            )
            SELECT id, '' AS detail FROM told
            SEMI JOIN (SELECT words FROM told GROUP BY words HAVING count(*) > {self.most}) AS often USING (words)"""
