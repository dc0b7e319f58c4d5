"""Limit on the number of samples, or of bytes, of a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from curation.core.ranges import check_count
from curation.filters.rank_cut import below_rank
from curation.shards.tar import END_BLOCKS


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Keep exactly `samples` of the samples that reach this filter (all, where there are fewer), or at most `bytes`.

    Samples are kept in the order of `score`, the highest first, ties by uid (smaller first). Without a score the order
    is that of the uids, which are hashes: a random selection that is the same on every machine. `bytes` bounds the size
    of the output shards: for each sample its members with tar headers and the provenance in its json, and for each
    shard its end-of-archive blocks. The filter drops the first sample that does not fit, and all after it.
    Cost: 0.2 us of CPU a sample; one sort of the score (`samples`), or of score, uid and length (`bytes`), out of core.
    Example: budget: {samples: 1000000, score: clip_score}
    """

    code: ClassVar[int] = 2

    samples: int | None = None
    bytes: int | None = None
    score: str | None = None

    def __post_init__(self) -> None:
        if (self.samples is None) == (self.bytes is None):
            raise ValueError("give either samples or bytes")
        check_count("samples", self.samples, "a budget of 0 keeps no sample", least=1)
        check_count("bytes", self.bytes, "a budget of 0 keeps no sample", least=1)

    def columns(self) -> Sequence[str]:
        return (*(("length",) if self.bytes is not None else ()), *((self.score,) if self.score else ()))

    def limits(self) -> Sequence[float]:
        return ()

    def drops(self) -> str:
        if self.samples is not None and self.score:
            return below_rank(self.score, str(self.samples), "samples")
        order = f'"{self.score}" DESC, uid' if self.score else "uid"
        spent, most, detail = "count(*)", f"{self.samples}", "samples"
        if self.bytes is not None:  # every unit may end with a shard that is not full
            ends = f"{END_BLOCKS} * (SELECT count(DISTINCT unit) FROM alive)"
            spent, most, detail = "sum(length)", f"{self.bytes} - {ends}", "bytes"
        return f"""
            SELECT id, '{detail}' AS detail FROM (
                SELECT id, {spent} OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS spent FROM alive
            ) WHERE spent > {most}"""
