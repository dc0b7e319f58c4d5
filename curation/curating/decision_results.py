"""What was decided: counts, decisions of units in order, matches, groups of duplicates.

Each function is a query of a `Decisions`; the decisions of all units come from one pass over the samples, sorted once
within the engine's memory and streamed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa

from curation.curating import groups
from curation.curating.decisions import Decisions
from curation.curating.sample_pool import no_value
from curation.curating.tally import FILTERED, KEPT, QUARANTINED, tally

ROWS_AT_ONCE = 1 << 16  # of decisions, in one batch
_FINAL = """
    SELECT unit, row, CASE WHEN bad IS NOT NULL THEN 'quarantined' WHEN d.id IS NOT NULL AND r.id IS NULL
           THEN 'filtered' ELSE 'kept' END AS decision,
           CASE WHEN bad IS NOT NULL THEN bad WHEN r.id IS NULL THEN d.reason END AS reason,
           CASE WHEN bad IS NOT NULL OR (d.id IS NOT NULL AND r.id IS NULL) THEN 0
           ELSE coalesce(w.weight, 1) END::FLOAT AS weight
    FROM pool LEFT JOIN decided.dropped d USING (id) LEFT JOIN decided.rescued r USING (id)
    LEFT JOIN decided.weighed w USING (id)"""


def not_finite(engine: Decisions) -> dict[str, int]:
    """Return how many samples each score is missing or not finite for; scores without such samples are left out."""
    kinds = engine.scores | dict.fromkeys(engine.vectors, pa.binary())
    counts = [f"count(*) FILTER (bad = 'score_not_finite' AND {no_value(name, kinds[name])})" for name in kinds]
    if not counts:
        return {}
    (found,) = engine.db.execute(f"SELECT {', '.join(counts)} FROM pool").fetchall()
    return {name: n for name, n in zip(kinds, found, strict=True) if n}


def kept_per_unit(engine: Decisions) -> Iterator[tuple[int, int, int]]:
    """Yield (ordinal, kept, rows) of every unit that has rows, in order."""
    cursor = engine.db.cursor().execute(
        f"SELECT unit, count(*) FILTER (decision = 'kept'), count(*) FROM ({_FINAL}) GROUP BY unit ORDER BY unit"
    )
    while rows := cursor.fetchmany(1000):
        yield from rows


def of_groups(engine: Decisions, bounds: Iterable[tuple[int, int]]) -> Iterator[pa.Table]:
    """Yield the decisions of units first..last (inclusive) for each of `bounds`: unit, row, decision, reason, weight.

    bounds: ascending, without overlap. All groups come from one pass over the samples, sorted once within the engine's
    memory and streamed: the rows of one group and one batch are in memory here.
    """
    reader = engine.db.cursor().sql(f"{_FINAL} ORDER BY id").to_arrow_reader(ROWS_AT_ONCE)
    left: pa.RecordBatch | None = None
    for first, last in bounds:
        group: list[pa.RecordBatch] = []
        while left is not None or (left := next(reader, None)) is not None:
            unit = left.column(0).to_numpy()
            start, stop = np.searchsorted(unit, first), np.searchsorted(unit, last, side="right")
            group.append(left.slice(start, stop - start))
            if stop < len(unit):
                left = left.slice(stop)
                break
            left = None
        yield pa.Table.from_batches(group, reader.schema)


def replaced(engine: Decisions) -> pa.Table:
    """Return the edits that replace a value, sorted by unit, row and field: unit, row, field, value, by,
    at_run, from.

    In memory: about 200 bytes an edit.
    """
    rows = engine.db.sql(
        'SELECT unit, row, e.field, e.value, e."by", e.at_run, e."from" FROM decided.edits e JOIN pool USING (id) '
        "WHERE e.verb = 'replace' ORDER BY unit, row, e.field"
    )
    return rows.to_arrow_table().combine_chunks()


def unknown_uids(engine: Decisions) -> tuple[int, str | None]:
    """Return how many uids of the edits no sample has, and the first of them."""
    ((count, first),) = engine.db.execute("SELECT count(*), min(uid) FROM decided.unknown").fetchall()
    return count, first


def matches(engine: Decisions) -> pa.RecordBatchReader:
    """Stream the matches of filters that compare with other snapshots, sorted: uid, filter, how, value, against, other.

    against, other: the other snapshot, and the uid of the matching sample there.
    """
    query = (
        "SELECT uid, m.filter, m.how, m.value, m.against, m.other FROM decided.matched AS m JOIN pool USING (id) "
        "ORDER BY ALL"
    )
    return engine.db.sql(query).to_arrow_reader(10_000)


def duplicate_groups(engine: Decisions) -> list[groups.GroupExample]:
    """Return the largest groups of duplicates, of every filter that drops one sample in favour of another."""
    return groups.groups(engine.db, "decided.grouped")


def drop_counts(engine: Decisions) -> dict[tuple[int, str], int]:
    """Return how many samples each filter drops for each reason, by (place of the filter or `LISTS`, reason).

    Samples that the keep list rescues are included.
    """
    rows = engine.db.execute("SELECT place, reason, count(*) FROM decided.dropped GROUP BY place, reason").fetchall()
    return {(place, reason): count for place, reason, count in rows}


def totals(engine: Decisions, drops: Mapping[tuple[int, str], int] | None = None) -> Mapping[str, object]:
    """Return seen, kept, filtered {reason: n} and quarantined {reason: n}. drops: `drop_counts`, if known."""
    bad = engine.db.execute("SELECT bad, count(*) FROM pool WHERE bad IS NOT NULL GROUP BY bad").fetchall()
    filtered = Counter[str]()
    for (_, reason), count in (drop_counts(engine) if drops is None else drops).items():
        filtered[reason] += count
    rescued = "SELECT reason, count(*) FROM decided.dropped SEMI JOIN decided.rescued USING (id) GROUP BY reason"
    filtered.subtract(dict(engine.db.execute(rescued).fetchall()))
    kept = engine.rows - sum(n for _, n in bad) - filtered.total()
    rows = [(FILTERED, reason, n) for reason, n in filtered.items() if n]
    return tally([(KEPT, None, kept), *rows, *((QUARANTINED, reason, n) for reason, n in bad)])
