"""What edits come to, before a run: counts, contradictions, and uids that the dataset does not have.

Cost: a merge of the lists; where the recipe's output has a snapshot, one pass over the uids of its manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.curating.pipeline import list_urls, read_lists
from curation.dataset.manifest import Streams
from curation.dataset.snapshot import Snapshot
from curation.ledger.edit_merging import Named, contradictions, counts, merge
from curation.ledger.ledger import Ledger
from curation.ledger.recipe_edits import named_tables
from curation.recipes.curation_recipe import Recipe
from curation.storage.store import open_store
from curation.storage.tables import scratch


@dataclass(frozen=True)
class EditReport:
    """Edits of several lists. `edits`: merged; where lists contradict each other, those of the last one.

    `contradictions`: as of `edit_merging`, at most as many as were asked for; `contradicting`: how many there are.
    `resolved`: whether the last list wins. `unknown`: uids that the latest snapshot's corpus does not have, None
    without a snapshot.
    """

    lists: Sequence[str]
    edits: pa.Table
    contradictions: pa.Table
    contradicting: int
    resolved: bool = False
    unknown: int | None = None

    def to_json(self, most: int) -> dict[str, Any]:
        """Return the report with at most `most` edits."""
        return {
            "lists": list(self.lists),
            "edits": self.edits.num_rows,
            "samples": pc.count_distinct(self.edits.column("uid")).as_py(),
            "counts": counts(self.edits),
            "contradicting": self.contradicting,
            "contradictions": self.contradictions.to_pylist(),
            "resolved": self.resolved,
            "unknown": self.unknown,
            "rows": self.edits.slice(0, most).to_pylist(),
        }


def report(lists: Sequence[Named], most: int, *, last_wins: bool = False) -> EditReport:
    """Merge lists and report their contradictions, at most `most` of them."""
    found = contradictions(lists)
    edits = merge(lists, last_wins=True)
    return EditReport([name for name, _ in lists], edits, found.slice(0, most), found.num_rows, last_wins)


def report_of_recipe(recipe: Recipe, most: int) -> EditReport:
    """Report the edits of a recipe; its latest snapshot tells which uids are unknown. Raises `UserError`."""
    lists = named_tables(read_lists(recipe), list_urls(recipe))
    found = report(lists, most, last_wins=recipe.last_wins)
    out = Ledger(open_store(recipe.output, recipe.options))
    latest = out.latest()
    if not latest:
        return found
    unknown = unknown_in(Snapshot(out.store, out.snapshot(latest)), found.edits)
    return EditReport(found.lists, found.edits, found.contradictions, found.contradicting, found.resolved, unknown)


def unknown_in(snapshot: Snapshot, edits: pa.Table) -> int:
    """Return how many uids of the edits a snapshot's corpus does not have, without those of added samples.

    Reads the uids of its manifest.
    """
    added = pc.is_in(
        edits.column("uid"), edits.filter(pc.equal(edits.column("verb"), "add")).column("uid").combine_chunks()
    )
    with scratch(what="comparing edits with a manifest") as db, Streams() as streams:
        db.register("edits", edits.filter(pc.invert(added)))
        db.register("manifest", streams.of(snapshot.reader(["uid"])))
        unknown = "SELECT count(*) FROM (SELECT DISTINCT uid FROM edits) ANTI JOIN manifest USING (uid)"
        return int(db.execute(unknown).fetchall()[0][0])
