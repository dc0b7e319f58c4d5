"""Limit on the number of samples of each cluster, language or other group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curation.core.ranges import check_count, check_seed
from curation.filters.hash_uniform import hash_uniform


@dataclass(frozen=True, kw_only=True)
class ClusterBalance:
    """Keep exactly min(n, `most`) of the n samples of each group. A group is the samples with one value of `column`.

    Use it to flatten a corpus in which a few concepts have most of the samples. `column` is a score that is a word or
    an integer (`cluster.cluster`, `language.code`), or the index's `format`. The samples with the highest `prefer`
    score are kept (ties: smaller uid). Without `prefer`, a hash of seed and uid selects them, the same on every
    machine.
    Cost: 0.1 us of CPU a sample; one aggregation, and one sort within the groups that are too large, out of core.
    Source: sampling from k-means clusters, at random or nearest to the centre (`prefer: cluster.similarity`), as in Vo
    et al. 2024 (2405.15613).
    Example: cluster_balance: {column: cluster.cluster, most: 1000, prefer: clip_score}
    """

    column: str
    most: int
    prefer: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("most", self.most, "it is how many samples a group may have", least=1)
        check_seed(self.seed)

    def columns(self) -> Sequence[str]:
        return (self.column, *((self.prefer,) if self.prefer else ()))

    def drops(self) -> str:
        # Sorting by uid too would take twice the time: only samples tied with a group's last place are sorted by uid.
        first = (
            f'alive."{self.prefer}" DESC' if self.prefer else hash_uniform(self.seed, f"cluster_balance {self.column}")
        )
        group, detail = f'alive."{self.column}"', f"'{self.column}' AS detail"
        return f"""
            WITH placed AS MATERIALIZED (
                SELECT alive.id, {group} AS g, rank() OVER (PARTITION BY {group} ORDER BY {first}) AS place
                FROM alive SEMI JOIN (
                    SELECT {group} AS g FROM alive GROUP BY 1 HAVING count(*) > {self.most}
                ) AS large ON {group} IS NOT DISTINCT FROM large.g
            ), crowded AS (
                SELECT g, max(place) AS place FROM placed WHERE place <= {self.most}
                GROUP BY g HAVING count(*) > {self.most}
            )
            SELECT id, {detail} FROM placed WHERE place > {self.most}
            UNION ALL
            SELECT id, {detail} FROM (
                SELECT level.id, level.place - 1 + row_number() OVER (PARTITION BY level.g ORDER BY alive.uid) AS place
                FROM (
                    SELECT placed.* FROM placed JOIN crowded
                    ON placed.g IS NOT DISTINCT FROM crowded.g AND placed.place = crowded.place
                ) AS level JOIN alive ON alive.id = level.id
            ) WHERE place > {self.most}"""
