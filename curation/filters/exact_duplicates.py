"""All but one of the samples whose bytes are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ExactDuplicates:
    """Equal image bytes (`of: image`), or equal image bytes and caption (`of: pair`): one stays.

    The one that stays has the highest `prefer` score, or comes first in source order, so that data added later never
    displaces what was kept before. A hash aggregation and a window over the duplicates alone, both out of core.
    """

    of: Literal["image", "pair"] = "image"
    prefer: str | None = None

    def columns(self) -> Sequence[str]:
        caption = ("caption",) if self.of == "pair" else ()
        return ("content_hash", *caption, *((self.prefer,) if self.prefer else ()))

    def drops(self) -> str:
        key = "content_hash, caption" if self.of == "pair" else "content_hash"
        order = f'"{self.prefer}" DESC, uid' if self.prefer else "id"
        return f"""
            SELECT id, '' AS detail FROM (
                SELECT id, row_number() OVER (PARTITION BY {key} ORDER BY {order}) AS place
                FROM alive SEMI JOIN (SELECT {key} FROM alive GROUP BY ALL HAVING count(*) > 1) AS repeated
                USING ({key})
            ) WHERE place > 1"""
