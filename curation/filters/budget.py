"""As many samples, or as many bytes, as one can afford: the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from curation.core.ranges import check_count
from curation.filters.best import all_but_best
from curation.shards.tar import END_BLOCKS


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Keep exactly `samples` of the samples that reach this filter (all, where there are fewer), or at most `bytes`.

    The highest `score` first, ties by uid (smaller first); without a score, in the order of uids, which are hashes: a
    sample drawn at random, the same one everywhere. Bytes are what the shards come to, at the most: of each sample its
    members with tar headers and with what its json says of where it is from, and of each shard its end; the first
    sample that does not fit ends it.
    Cost: one sort of the score alone (samples), or of score, uid and length (bytes), out of core. 0.2 us of CPU a
    sample.
    Example: budget: {samples: 1000000, score: clip_score}
    """

    code: ClassVar[int] = 2

    samples: int | None = None
    bytes: int | None = None
    score: str | None = None

    def __post_init__(self) -> None:
        if (self.samples is None) == (self.bytes is None):
            raise ValueError("give samples or bytes, one of them")
        check_count("samples", self.samples, "a budget of none keeps nothing", least=1)
        check_count("bytes", self.bytes, "a budget of none keeps nothing", least=1)

    def columns(self) -> Sequence[str]:
        return (*(("length",) if self.bytes is not None else ()), *((self.score,) if self.score else ()))

    def limits(self) -> Sequence[float]:
        return ()

    def drops(self) -> str:
        if self.samples is not None and self.score:
            return all_but_best(self.score, str(self.samples), "samples")
        order = f'"{self.score}" DESC, uid' if self.score else "uid"
        spent, most, detail = "count(*)", f"{self.samples}", "samples"
        if self.bytes is not None:  # every unit may end a shard that isn't full
            ends = f"{END_BLOCKS} * (SELECT count(DISTINCT unit) FROM alive)"
            spent, most, detail = "sum(length)", f"{self.bytes} - {ends}", "bytes"
        return f"""
            SELECT id, '{detail}' AS detail FROM (
                SELECT id, {spent} OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS spent FROM alive
            ) WHERE spent > {most}"""
