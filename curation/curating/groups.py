"""The largest groups of duplicates: for which sample a filter drops many others.

A filter of duplicates is as good as its worst group. One bad hash (every transparent drawing looked black, once) drops
thousands of different pictures for one, and no total shows it. So each such filter reports its ten largest groups, with
a few of their members to look at. Cost: one aggregation of what the filter drops, and one pass over those ten groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

MOST = 10  # groups of a filter
EXAMPLES = 6  # of those that leave
# A group is reported loudly above this share of the corpus, and from so many samples on.
LARGE_SHARE, LARGE = 0.001, 10


@dataclass(frozen=True)
class Member:
    """A sample of the decision engine: its uid, its unit's place in the plan, its row in the unit."""

    uid: str
    unit: int
    row: int


@dataclass(frozen=True)
class GroupExample:
    """One sample that a filter keeps, and the others that it drops for it."""

    filter: str
    samples: int  # with the one that stays
    stays: Member
    goes: Sequence[Member]  # some of those that leave, first in source order

    def to_json(self) -> dict[str, Any]:
        goes = [one.uid for one in self.goes]
        return {"filter": self.filter, "samples": self.samples, "stays": self.stays.uid, "goes": goes}


def make_table(db: duckdb.DuckDBPyConnection, table: str) -> None:
    db.execute(f"""
        CREATE OR REPLACE TABLE {table}
        (place SMALLINT, filter VARCHAR, stays BIGINT, samples BIGINT, goes BIGINT[])""")


def collect(db: duckdb.DuckDBPyConnection, table: str, place: int, name: str, copies: str) -> None:
    """Add the largest groups of one filter. `copies`: a table with `id, stays` of what it drops."""
    db.execute(
        f"""
        INSERT INTO {table}
        WITH largest AS MATERIALIZED (
            SELECT stays, count(*) AS n FROM {copies} GROUP BY stays ORDER BY n DESC, stays LIMIT {MOST}
        )
        SELECT {place}, $name, stays, any_value(n) + 1, list_sort(min(id, {EXAMPLES}))
        FROM {copies} JOIN largest USING (stays) GROUP BY stays""",
        {"name": name},
    )


def groups(db: duckdb.DuckDBPyConnection, table: str) -> list[GroupExample]:
    """The groups in the table: by filter, the largest first."""
    wanted = f"SELECT stays AS id FROM {table} UNION SELECT unnest(goes) FROM {table}"
    rows = db.execute(f"SELECT id, uid, unit, row FROM pool SEMI JOIN ({wanted}) USING (id)").fetchall()
    members = {place: Member(*rest) for place, *rest in rows}
    found = db.execute(f"""
        SELECT filter, samples, stays, goes FROM {table} ORDER BY place, filter, samples DESC, stays""").fetchall()
    return [
        GroupExample(name, samples, members[stays], [members[one] for one in goes])
        for name, samples, stays, goes in found
    ]


def warnings(found: Sequence[Mapping[str, Any]], seen: int) -> Iterator[str]:
    """A line for each group, as JSON has it, that takes more than its share of the corpus."""
    for group in found:
        if group["samples"] >= LARGE and group["samples"] > LARGE_SHARE * seen:
            share = group["samples"] / max(1, seen)
            yield (
                f"{group['filter']} takes {group['samples']:,} samples ({share:.1%} of the corpus) for copies of one, "
                f"{group['stays']}: look at them"
            )
