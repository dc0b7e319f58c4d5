"""A limit on how many samples any one cluster, language or other group may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curation.filters.draw import draw


@dataclass(frozen=True, kw_only=True)
class ClusterBalance:
    """Keep exactly min(n, `most`) of the n samples of each group: those that have one value of `column`.

    Use it to flatten a corpus in which a few concepts take most of the room. `column` is any score that is a word or an
    integer (`cluster.cluster`, `language.code`) or the index's `format`. The highest `prefer` score stays (ties:
    smaller uid); without it, samples drawn by a hash of seed and uid: the same ones everywhere.
    Cost: one aggregation, and one sort within the groups that are too large, out of core. 0.3 us of CPU a sample.
    Source: sampling from k-means clusters, at random or those nearest to the centre (`prefer: cluster.similarity`),
    as in Vo et al. 2024 (2405.15613).
    Example: cluster_balance: {column: cluster.cluster, most: 1000, prefer: clip_score}
    """

    column: str
    most: int
    prefer: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError("most is how many samples a group may have, so at least 1")

    def columns(self) -> Sequence[str]:
        return (self.column, *((self.prefer,) if self.prefer else ()))

    def drops(self) -> str:
        first = f'alive."{self.prefer}" DESC' if self.prefer else draw(self.seed, f"cluster_balance {self.column}")
        return f"""
            SELECT id, '{self.column}' AS detail FROM (
                SELECT id, row_number() OVER (PARTITION BY alive."{self.column}" ORDER BY {first}, uid) AS place
                FROM alive SEMI JOIN (
                    SELECT "{self.column}" AS g FROM alive GROUP BY 1 HAVING count(*) > {self.most}
                ) AS large ON alive."{self.column}" IS NOT DISTINCT FROM large.g
            ) WHERE place > {self.most}"""
