"""Limits on the length and the repetition of a caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from curation.core.ranges import check_count
from curation.core.words import SPACE, WORD


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Keep the samples whose caption is within the limits of length, word count and repetition.

    A limit that is not given does not apply. Characters are counted without white space at either end. Words are
    counted as by `caption_stats`: runs of visible characters between white space, and single characters of Han and
    kana. Repetition is 1 - (different words / words): 0 for "a red apple", 0.67 for "sale sale sale".
    Cost: 2.7 us of CPU a caption.
    Source: basic filtering of DataComp (2304.14108, appendix N) and the repetition rule of Gopher (2112.11446, A.1).
    Example: caption: {min_words: 2, min_chars: 5, max_repetition: 0.5}
    """

    code: ClassVar[int] = 4

    min_words: int = 1
    max_words: int | None = None
    min_chars: int = 0
    max_chars: int | None = None
    max_repetition: float | None = None

    def __post_init__(self) -> None:
        if self.max_repetition is not None and not 0 <= self.max_repetition <= 1:
            raise ValueError(f"max_repetition is {self.max_repetition}, but must be a share from 0 to 1")
        for name in ("min_words", "max_words", "min_chars", "max_chars"):
            check_count(name, getattr(self, name), "it is a length of a caption")
        for what, least, most in (("words", self.min_words, self.max_words), ("chars", self.min_chars, self.max_chars)):
            if most is not None and most < least:
                raise ValueError(f"max_{what} ({most}) is less than min_{what} ({least}): no sample would be kept")

    def columns(self) -> Sequence[str]:
        return ("caption",)

    def drops(self) -> str:
        rules = [
            (f"words < {self.min_words}", "too_few_words"),
            (f"words > {self.max_words}", "too_many_words") if self.max_words is not None else None,
            (f"length(trim(caption, '{SPACE}')) < {self.min_chars}", "too_short"),
            (f"length(trim(caption, '{SPACE}')) > {self.max_chars}", "too_long")
            if self.max_chars is not None
            else None,
            (f"words > 0 AND 1 - different / words > {self.max_repetition!r}", "repetitive")
            if self.max_repetition is not None
            else None,
        ]
        cases = " ".join(f"WHEN {rule[0]} THEN '{rule[1]}'" for rule in rules if rule)
        return f"""
            SELECT id, detail FROM (
                SELECT id, CASE {cases} END AS detail FROM (
                    SELECT id, caption, len(w) AS words, list_unique(w) AS different
                    FROM (SELECT id, caption, regexp_extract_all(lower(caption), '{WORD}') AS w FROM alive)
                )
            ) WHERE detail IS NOT NULL"""
