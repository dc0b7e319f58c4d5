"""Captions that occur often in the corpus: they describe the web page, not the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from curation.core.ranges import check_count
from curation.core.words import SPACE


@dataclass(frozen=True, kw_only=True)
class Boilerplate:
    """Drop every sample whose caption occurs more than `most` times among the samples that reach this filter.

    Captions that differ only in case and white space count as equal ("Image  for post", "image for post"). Samples
    without a caption are not dropped: the filter `caption` drops them.
    Cost: 2 us of CPU a sample; one hash aggregation of 64 bits a caption, out of core. Two captions with equal 64 bits
    are counted together: among a billion captions the chance of one such pair is 3 %.
    Source: C4's rule for repeated text (1910.10683), applied to whole captions.
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
            WITH captions AS (
                SELECT id, hash(words) AS words FROM (
                    SELECT id, trim(regexp_replace(lower(caption), '[{SPACE}]+', ' ', 'g')) AS words FROM alive
                ) WHERE words <> ''
            )
            SELECT id, '' AS detail FROM captions
            SEMI JOIN (
                SELECT words FROM captions GROUP BY words HAVING count(*) > {self.most}
            ) AS often USING (words)"""
