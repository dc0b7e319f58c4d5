"""Which values that are stored twice, in score tables and in the manifest, have been recomputed.

Neither copy is trusted more than the other: whoever can replace one can replace its hashes. Scores are settled once the
models have made them again (`--rescore`) on the software that made them, to the bit; on other software values within
`rescored.TOLERANCE` pass, so that a smaller difference stays open. Details are settled where the index table words them
as the input shard gives them now.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from curation.core.software import software, software_id
from curation.core.types import ShardRef
from curation.curating.verification import rescored
from curation.curating.verification.differences import read_object
from curation.curating.verification.scored import ScoredCheck
from curation.ledger.ledger import unit_id
from curation.ledger.score_tables import Column

_OPEN = "the score tables and the manifest differ, and no checksum tells which is right"


@dataclass(frozen=True)
class Recomputed:
    """`columns`: names of those that were scored again, for a `share` of the units; picklable."""

    check: ScoredCheck
    dataset: str
    decision: str
    seed: int
    share: float
    columns: frozenset[str]

    def scores(self, shards: Sequence[ShardRef], columns: Collection[Column]) -> str:
        """Empty where the score tables hold what the models give; else why that is not known, and what to do."""
        drawn = all(rescored.drawn(self.decision, self.seed, shard, self.share) for shard in shards)
        if not self.share or not drawn:
            again = f"`curate repair {self.dataset.removeprefix('file://')} --rescore 1.0 --apply`"
            return f"{_OPEN}: {again} scores again, which decides"
        if lacks := [column.name for column in columns if column.name not in self.columns]:
            return f"{_OPEN}: {lacks[0]} could not be scored again; see the other findings and notes"
        if not all(self._ours(shard, column) for shard in shards for column in columns):
            other = "the models give the tables' values only within the tolerance between versions of software"
            return f"{_OPEN}: {other}; repair with the software that the score records name"
        return ""

    def _ours(self, shard: ShardRef, column: Column) -> bool:
        """Whether this software made a table, so that it was compared to the bit."""
        record = read_object(self.check.scored.store, f"units/{unit_id(shard, column.fingerprint)}.json") or {}
        return record.get("software") == software_id(software())

    def details(self, shards: Sequence[ShardRef]) -> str:
        """Empty where the index tables word details as the input shards give them; else why that is not known."""
        if all(self.check.details_hold(shard) for shard in shards):
            return ""
        return f"{_OPEN}: another version of the software worded them, which alone can repair them"
