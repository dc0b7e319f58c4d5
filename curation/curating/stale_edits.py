"""Reports of stale edits: how many were not applied because the sample's value is not their `from`, with examples.

A write unit's record and the snapshot's document have the report; both leave it out where no edit is stale. Examples
are the first ones by uid and field, so that the report is a function of the output, whatever order units finish in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import nsmallest
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.curating.edited_samples import StaleEdit
from curation.ledger.edit_lists import EditList
from curation.ledger.uid_lists import UidList

REASON = "stale_edit"
FIELD = "stale_edits"  # of a record and of a snapshot's document
MOST = 100  # examples of a report
_SHOWN = 200  # characters of a value in an example

Report = Mapping[str, Any]  # count, and examples: uid, field, expected, present


def stale_report(found: Iterable[tuple[str, StaleEdit]]) -> dict[str, Any]:
    """Return the report of a unit as a field of its record; {} where no edit is stale. found: uid and edit."""
    examples = [
        {"uid": uid, "field": edit.field, "expected": _short(edit.expected), "present": _short(edit.present)}
        for uid, edit in found
    ]
    return _field(len(examples), examples)


def added(reports: Sequence[Report]) -> dict[str, Any]:
    """Return the report of several units, as a field of a document; {} where no edit is stale."""
    return _field(sum(one["count"] for one in reports), [row for one in reports for row in one["examples"]])


def with_lists(report: Report, lists: Mapping[str, EditList | UidList], urls: Mapping[str, str]) -> dict[str, Any]:
    """Return a report whose examples name the edit list of each, the first one that expects this value."""
    uids = pa.array([row["uid"] for row in report["examples"]], pa.string())
    homes: dict[tuple[str, str, str], str] = {}
    for name, item in sorted(lists.items()):
        if isinstance(item, EditList):
            some = item.table.filter(pc.is_in(item.table.column("uid"), value_set=uids))
            for row in some.filter(pc.is_valid(some.column("from"))).to_pylist():
                homes.setdefault((row["uid"], row["field"], str(_short(row["from"]))), urls.get(name, name))
    examples = [{**row, "list": homes.get((row["uid"], row["field"], row["expected"]))} for row in report["examples"]]
    return {"count": report["count"], "examples": examples}


def stale_line(report: Report) -> str:
    """Return the line that reports stale edits."""
    one = report["examples"][0]
    present = "missing" if one["present"] is None else one["present"]
    where = f" ({one['list']})" if one.get("list") else ""
    return (f"{REASON}: {report['count']:,} edits are not applied, since the value has changed, such as uid "
            f"{one['uid']}: {one['field']} is {present}, not {one['expected']}{where}")  # fmt: skip


def _field(count: int, examples: list[dict[str, Any]]) -> dict[str, Any]:
    first = nsmallest(MOST, examples, key=lambda row: (row["uid"], row["field"]))
    return {FIELD: {"count": count, "examples": first}} if count else {}


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
