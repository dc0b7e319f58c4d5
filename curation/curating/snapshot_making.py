"""Write what was decided, and create the snapshot once every unit's counts balance.

The bytes are copied by the executor's workers, a write group each; the driver adds up their records, about 200 bytes an
output shard. Creating the snapshot costs five small puts. Both can be repeated: a committed group is found.
"""

from __future__ import annotations

from typing import Any

from curation.core.errors import IncompleteError
from curation.core.executor import Executor
from curation.core.progress import Tick
from curation.core.software import of_this_process
from curation.curating import decision_results, stale_edits, writing
from curation.curating.pipeline import Pipeline, list_urls
from curation.curating.planning import decision_id
from curation.curating.write_groups import WriteGroups, WrittenTotals
from curation.ledger import unreadable
from curation.ledger.documents import SnapshotDocument, relative_url
from curation.ledger.ledger import Ledger
from curation.ledger.plans import Plan
from curation.storage.parquet import to_parquet, write_parquet


def write_groups(work: Pipeline, decided: WriteGroups, tick: Tick, executor: Executor) -> WrittenTotals:
    """Commit every group of the decision, and return what their records add up to."""
    writer = writing.GroupWriter(work.corpus.store(), work.scored, work.out)
    workers = work.recipe.compute.write_workers or None
    written, groups = WrittenTotals(), decided.groups(work.recipe.shards.samples)
    for record in executor.map(writer.write, groups, ordered=False, concurrency=workers):
        tick(record["seen"])
        written.add(record)
        work.counts.groups_written += record["made"]
        work.counts.data_puts += record["made"] * (1 + len(record["shards"]))
    return written


def create_snapshot(work: Pipeline, plan: Plan, decided: WriteGroups, written: WrittenTotals) -> SnapshotDocument:
    """Create the snapshot of a decision whose groups are all written. Raises `IncompleteError` if some are missing."""
    if written.units != plan.units:
        raise IncompleteError(f"{written.units} of {plan.units} shards were written", fix="run the command again")
    made = work.out.create_snapshot(snapshot_fields(work, work.out, plan, decided, written))
    work.counts.snapshot, work.counts.new_snapshot = made.snapshot, True
    return made


def snapshot_fields(
    work: Pipeline, out: Ledger, plan: Plan, decided: WriteGroups, written: WrittenTotals
) -> dict[str, Any]:
    """Put the objects that a snapshot's document names, and return its fields, without number and parent.

    out: where the objects are put: the pipeline's output, or a ledger that compares them.
    """

    def named(name: str, data: bytes, suffix: str) -> dict[str, Any]:
        work.counts.data_puts += 1
        return out.put_data(name, data, suffix).to_json()

    scorers = work.recipe.scorers
    shards, parts = written.tables()
    urls = "".join(f"{key}\n" for key in shards.column("key").to_pylist())
    fields = {
        "decision_id": decision_id(work, plan),
        "plan": plan.id,
        "recipe": dict(work.recipe.document),
        "recipe_sha256": work.recipe.sha256,
        "scores_url": relative_url(work.scored.store, out.store),
        "software": of_this_process() | work.software,
        "fingerprints": work.fingerprints,
        "weights": {name: files[0].sha256 for name, scorer in scorers.items() if (files := scorer.files())},
        "scores": list(decided.engine.scores),
        "score_types": {name: str(kind) for name, kind in decided.engine.scores.items()},
        "units": written.counts(),
        "samples": written.samples,
        "shards": named("shards", to_parquet(shards), "parquet"),
        "manifest": named("manifest", to_parquet(parts), "parquet"),
        "urls": named("urls", urls.encode(), "txt"),
        "groups": [group.to_json() for group in decision_results.duplicate_groups(decided.engine)],
        "lists": {name: named(name, item.data, item.suffix) for name, item in work.lists.items()},
        **_compared(work, out, decided),
        **_stale(work, written),
        **(
            {"added": {"shards": [one._asdict() for one in work.marked], "samples": written.added}}
            if work.marked
            else {}
        ),
    }
    if work.unreadable:
        fields["unreadable"] = named("unreadable", unreadable.listed(work.unreadable), "json")
    return fields


def _stale(work: Pipeline, written: WrittenTotals) -> dict[str, Any]:
    """Return the report of edits that were not applied, with the lists that they are from."""
    found = stale_edits.added(written.stale)
    urls = list_urls(work.recipe)
    return {name: stale_edits.with_lists(report, work.lists, urls) for name, report in found.items()}


def _compared(work: Pipeline, out: Ledger, decided: WriteGroups) -> dict[str, Any]:
    """Return which snapshots were compared with, and put a Parquet of the matches."""
    if not work.others.snapshots:
        return {}
    path = work.spool / "matches.parquet"
    write_parquet(path, decision_results.matches(decided.engine))
    matches = out.put_data_file("matches", path, "parquet")
    work.counts.data_puts += 1
    path.unlink()
    return {"against": work.others.pins, "matches": matches.to_json()}
