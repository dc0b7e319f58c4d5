"""The largest groups of duplicates as pictures: the sample that is kept beside some of those dropped for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import curation as cu
from curation.core.errors import StoreError
from curation.curating.groups import EXAMPLES, warnings
from jobs.pages.gallery import content, content_at
from jobs.pages.matches import facts
from jobs.pages.rendering import SampleReading, SampleView, render, sample_view

if TYPE_CHECKING:
    from curation.core.types import ShardRef
    from curation.curating.groups import GroupExample
    from curation.curating.pipeline import Pipeline

Section = tuple[list[str], list[dict[str, Any]]]


def page(snapshot: cu.Snapshot, groups: Sequence[Mapping[str, Any]]) -> str:
    """Return the page of a snapshot's groups. Reads the bytes of at most seven samples of each."""
    rows = facts(snapshot, [uid for group in groups for uid in (group["stays"], *group["goes"][:EXAMPLES])])

    def look(uid: str) -> tuple[Any, str]:
        return content(snapshot, rows[uid]) if uid in rows else (None, "(not in the manifest)")

    loud, shown = groups_section(groups, snapshot.document["samples"]["seen"], look)
    return render("groups.html", snapshot=f"{snapshot.store.url}@{snapshot.number}", warnings=loud, rows=shown)


def groups_section(groups: Sequence[Mapping[str, Any]], seen: int, look: SampleReading) -> Section:
    """Return what the template's `groups_table` shows: warnings about large groups, then one row for each group.

    `seen`: samples of the corpus; `look`: reads a sample by its uid.
    """
    rows = [
        {
            "filter": group["filter"],
            "samples": group["samples"],
            "share": group["samples"] / max(1, seen),
            "kept": _view(group["stays"], look),
            "dropped": [_view(uid, look) for uid in group["goes"][:EXAMPLES]],
        }
        for group in groups
    ]
    return list(warnings(groups, seen)), rows


def _view(uid: str, look: SampleReading) -> SampleView:
    try:
        return sample_view(uid, *look(uid), letters=80)
    except StoreError as error:  # sources may be deleted or change; the group remains true
        return SampleView(uid, f"({error})")


def looks(work: Pipeline, shards: Iterable[ShardRef], groups: Sequence[GroupExample]) -> SampleReading:
    """Return what reads the members of groups before a snapshot exists: through the score tables' index of their units.

    `shards`: those that the engine has loaded, in the same order. Reads one score table for each unit with a member; a
    group has at most seven members.
    """
    from curation.ledger import score_tables

    members = [member for group in groups for member in (group.stays, *group.goes)]
    wanted = {member.unit for member in members}
    where = {number: shard for number, shard in enumerate(shards) if number in wanted}
    index = {
        unit: score_tables.read(work.scored, shard, work.columns[0], ["offset", "length"])
        for unit, shard in where.items()
    }
    places = {}
    for member in members:
        row = index[member.unit].slice(member.row, 1).to_pylist()[0]
        shard = where[member.unit]
        source = {"source_key": shard.key, "source_etag": shard.etag}
        places[member.uid] = {**source, "source_offset": row["offset"], "source_length": row["length"]}
    store = work.corpus.store()
    limits, caption = work.recipe.decoding, work.recipe.caption
    return cache(lambda uid: content_at(store, places[uid], limits, caption))  # settings share groups
