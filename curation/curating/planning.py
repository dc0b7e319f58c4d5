"""Plan: which shards the corpus has, whether its snapshot exists already, and which score tables are missing.

Planning costs a listing of the corpus and holds one page of the plan in memory; the question for missing tables costs
one small GET a unit and column. Every step can be repeated: a plan that exists is found under its hash.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from curation.core.digest import digest
from curation.core.parallel import map_ordered
from curation.core.printable import printable
from curation.core.progress import Tick
from curation.core.types import ShardRef
from curation.curating import writing
from curation.curating.compared_snapshots import ComparedSnapshots
from curation.curating.pipeline import Pipeline
from curation.curating.record_spool import RecordSpool
from curation.curating.scoring.batches import shard_refs
from curation.dataset.corpus import left_out_message
from curation.filters.named import described
from curation.ledger import score_tables, unreadable
from curation.ledger.documents import ScoreRecord, SnapshotDocument
from curation.ledger.ledger import Ledger
from curation.ledger.plans import Plan
from curation.storage.store import open_store

UNITS_SCHEMA = pa.schema(
    [
        ("shard_key", pa.string()),
        ("shard_size", pa.int64()),
        ("shard_etag", pa.string()),
        ("lacks", pa.list_(pa.dictionary(pa.int8(), pa.string()))),  # columns that have no committed table
    ]
)


def make_plan(work: Pipeline, *, write: bool = True) -> Plan:
    """List the corpus and pin it. With `write=False` the plan stays on local disk until the pipeline is closed."""
    context = {"corpus": work.corpus.to_json(), "fingerprints": work.fingerprints}
    ledger = work.out if write else Ledger(open_store(str(work.spool / "plan")))
    return ledger.plan(work.corpus.listing(work.spool, partial(_left_out, work)), context)


def _left_out(work: Pipeline, shards: int, example: str) -> None:
    work.left_out = {"shards": shards, "example": example}
    print(printable(left_out_message(work.corpus.root, shards, example)), file=sys.stderr, flush=True)


def decision_id(work: Pipeline, plan: Plan, others: ComparedSnapshots | None = None) -> str:
    """Return the digest of everything that determines a snapshot's content: equal ids, equal snapshots.

    others: the snapshots that filters compare with, if they are not those of `work`.
    """
    aside = sha256(unreadable.listed(work.unreadable)).hexdigest() if work.unreadable else None
    return _decision_id(work, plan.id, others or work.others, aside)


def _decision_id(work: Pipeline, plan_id: str, others: ComparedSnapshots, aside: str | None) -> str:
    filters = [[item.name, *described(item.filter)] for item in work.recipe.filters]
    lists = {name: item.sha256 for name, item in work.lists.items()}
    compared = [others.identity] if others.snapshots else []
    more = [["unreadable", aside]] if aside else []
    more += [["edits", "last_wins"]] if work.recipe.last_wins else []
    added = [["added", *map(list, work.marked)]] if work.marked else []
    decided = [plan_id, filters, lists, work.recipe.shards.samples, writing.WRITER_VERSION]
    return digest([*decided, *compared, *more, *added])


def current_snapshot(work: Pipeline, plan: Plan) -> SnapshotDocument | None:
    """Return the latest snapshot's document if this plan and recipe would make the same snapshot, else None."""
    if not (latest := work.out.latest()):
        return None
    document = work.out.snapshot(latest)
    then = work.others.as_then(document.against)
    aside = document.unreadable.sha256 if document.unreadable else None
    if aside and work.recipe.on_unreadable == "stop":
        return None
    if document.decision_id == _decision_id(work, plan.id, then, aside):
        return document
    if document.decision_id != _decision_id(work, document.plan, then, aside):
        return None  # other filters, lists or writer, whatever the plan
    return document if plan.same_as(work.out.open_plan(document.plan)) else None


def missing_units(work: Pipeline, plan: Plan, records: RecordSpool | None = None) -> pa.Table:
    """Return the units that lack a table, as `UNITS_SCHEMA`, about 100 bytes each; without those set aside.

    records: receives the commit records of all units of the plan. Costs one small GET a unit and column.
    """

    def found(shard: ShardRef) -> tuple[ShardRef, dict[str, ScoreRecord] | None]:
        return shard, None if shard in work.unreadable else score_tables.committed(work.scored, shard, work.columns)

    def lacking() -> Iterator[tuple[ShardRef, list[str]]]:
        for shard, there in map_ordered(found, plan.shards()):
            if records is not None:
                records.add((there or {}).values())
            if there is not None and (names := [name for name in names_of_all if name not in there]):
                yield shard, names

    names_of_all = [column.name for column in work.columns]
    return lacking_units(lacking())


def without_tables(work: Pipeline, shards: Iterable[ShardRef]) -> pa.Table:
    """Return those of the shards that lack the table of some column, as `UNITS_SCHEMA`."""

    def lacks(shard: ShardRef) -> tuple[ShardRef, list[str]]:
        return shard, score_tables.missing(work.scored, shard, work.columns)

    return lacking_units((shard, names) for shard, names in map_ordered(lacks, shards) if names)


def recall_unreadable(work: Pipeline, plan: Plan) -> None:
    """Set aside the shards that the latest snapshot was made without, if they still lack scores.

    For reports on the state of a dataset. A run tries such shards again unless its snapshot is current.
    """
    work.unreadable.clear()
    latest = work.out.latest()
    if not latest or work.recipe.on_unreadable == "stop":
        return
    if known := unreadable.read_list(work.out.store, work.out.snapshot(latest).unreadable):
        lacking = without_tables(work, (shard for shard in plan.shards() if shard in known))
        work.unreadable.update((shard, known[shard]) for shard in shard_refs(lacking))


def take_out_damaged(work: Pipeline, plan: Plan, tick: Tick) -> int:
    """Delete the records of score tables that are gone or damaged, and return how many. Reads every table."""

    from curation.curating import score_store

    def check(shard: ShardRef) -> list[str]:
        return score_store.take_out_damaged(work.scored, shard, work.columns)

    found = 0
    for names in map_ordered(check, plan.shards(), threads=4):
        found += len(names)
        tick(1)
    return found


def lacked_columns(units: pa.Table) -> list[str]:
    """Return the names of the columns that some of these units lack, sorted."""
    return sorted(pc.unique(pc.list_flatten(units.column("lacks").combine_chunks())).to_pylist())


def no_units() -> pa.Table:
    """Return an empty table of units."""
    return UNITS_SCHEMA.empty_table()


def lacking_units(units: Iterable[tuple[ShardRef, Sequence[str]]]) -> pa.Table:
    """Return units and the columns that they lack as `UNITS_SCHEMA`; 10,000 of them are Python objects at a time."""
    tables, rows = [], ((*shard, names) for shard, names in units)
    while page := list(islice(rows, 10_000)):
        columns = (pa.array(c, t) for c, t in zip(zip(*page, strict=True), UNITS_SCHEMA.types, strict=True))
        tables.append(pa.Table.from_arrays(list(columns), schema=UNITS_SCHEMA))
    return pa.concat_tables(tables) if tables else no_units()
