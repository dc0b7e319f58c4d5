"""Evidence for values that are stored twice, in score tables and in the manifest: whether they have been recomputed.

Neither copy is trusted more than the other: an attacker who can replace one can replace its hashes. Scores are proved
when the models have computed them again (`--rescore`), bit for bit, on the software that created them. On other
software, values within `model_scores.TOLERANCE` pass, so a smaller difference stays unproved. Details are proved when
the index table has those of the input shard as it is read now. Covered by `tests/jobs/test_trust.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from curation.core.software import software, software_id
from curation.core.types import ShardRef
from curation.curating.verification import model_scores
from curation.curating.verification.differences import read_object
from curation.curating.verification.score_tables import ScoredCheck
from curation.ledger.ledger import unit_id
from curation.ledger.score_tables import Column

_OPEN = "the score tables and the manifest differ, and no checksum tells which is right"


@dataclass(frozen=True)
class Recomputed:
    """Values recomputed in this check; picklable. `columns`: the columns scored again, for a `share` of the units."""

    check: ScoredCheck
    dataset: str
    decision: str
    seed: int
    share: float
    columns: frozenset[str]

    def scores(self, shards: Sequence[ShardRef], columns: Collection[Column]) -> str:
        """Return "" when the score tables are proved to have the models' values, else why not, and what to do."""
        drawn = all(model_scores.drawn(self.decision, self.seed, shard, self.share) for shard in shards)
        if not self.share or not drawn:
            again = f"`curate repair {self.dataset.removeprefix('file://')} --rescore 1.0 --apply`"
            return f"{_OPEN}: {again} scores all units again and decides"
        if lacks := [column.name for column in columns if column.name not in self.columns]:
            return f"{_OPEN}: {lacks[0]} could not be scored again; see the other findings and notes"
        if not all(self._ours(shard, column) for shard in shards for column in columns):
            other = "the models give the tables' values only within the tolerance between versions of software"
            return f"{_OPEN}: {other}; repair with the software that the score records name"
        return ""

    def _ours(self, shard: ShardRef, column: Column) -> bool:
        """Whether this software created a table, so that it was compared bit for bit."""
        record = read_object(self.check.scored.store, f"units/{unit_id(shard, column.fingerprint)}.json") or {}
        return record.get("software") == software_id(software())

    def details(self, shards: Sequence[ShardRef]) -> str:
        """Return "" when the index tables are proved to have the details of the input shards, else why not."""
        if all(self.check.details_hold(shard) for shard in shards):
            return ""
        return f"{_OPEN}: another version of the software wrote the details, and only that version can repair them"
