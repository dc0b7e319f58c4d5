"""Pictures of the largest groups of duplicates: the sample that stays beside a few of those that leave for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

import curation as cu
from curation.core.errors import StoreError
from curation.core.printable import printable
from curation.curating.groups import EXAMPLES, warnings
from jobs.commands.gallery import content, content_at
from jobs.pages.frame import document, jpeg
from jobs.pages.matches import facts

if TYPE_CHECKING:
    from curation.core.types import ShardRef
    from curation.curating.groups import GroupExample
    from jobs.pipeline import Pipeline

#: Picture (or None) and caption of a uid.
Look = Callable[[str], tuple[Any, str]]


def page(snapshot: cu.Snapshot, groups: Sequence[Mapping[str, Any]]) -> str:
    """The page of a snapshot's groups. Reads the bytes of at most seven samples a group."""
    rows = facts(snapshot, [uid for group in groups for uid in (group["stays"], *group["goes"][:EXAMPLES])])

    def look(uid: str) -> tuple[Any, str]:
        return content(snapshot, rows[uid]) if uid in rows else (None, "(not in the manifest)")

    title = f"{snapshot.store.url}@{snapshot.number}: the largest groups of duplicates"
    body = section(groups, snapshot.document["samples"]["seen"], look)
    return document("groups", f"<h1>{escape(title)}</h1>\n{body}")


def section(groups: Sequence[Mapping[str, Any]], seen: int, look: Look) -> str:
    """The groups as a table, after a line for each that takes much of the corpus."""
    loud = "".join(f'<p class="drop">{escape(line)}</p>\n' for line in warnings(groups, seen))
    rows = []
    for group in groups:
        share = group["samples"] / max(1, seen)
        said = f"{escape(group['filter'])}<br>{group['samples']:,} samples, {share:.2%} of the corpus"
        goes = "".join(f'<span class="one">{_sample(uid, look)}</span>' for uid in group["goes"][:EXAMPLES])
        rows.append(f"<tr><td>{said}</td><td>{_sample(group['stays'], look)}</td><td>{goes}</td></tr>")
    head = "<tr><th>filter</th><th>stays</th><th>leave, among others</th></tr>"
    body = "\n".join(rows) or '<tr><td colspan="3">no filter dropped a sample for another one</td></tr>'
    return f"{loud}<table>{head}\n{body}</table>"


def _sample(uid: str, look: Look) -> str:
    try:
        pixels, caption = look(uid)
    except StoreError as error:  # a source may go or change; what was found about it stays
        pixels, caption = None, f"({error})"
    picture = "" if pixels is None else f'<img alt="" src="data:image/jpeg;base64,{jpeg(pixels)}"><br>'
    return f"{picture}{escape(printable(caption[:80]))}<br><code>{escape(uid)}</code>"


def looks(work: Pipeline, shards: Iterable[ShardRef], groups: Sequence[GroupExample]) -> Look:
    """How the members of groups look, before there is a snapshot: from the index of their units.

    `shards`: those that the engine was loaded with, in the same order. Reads one score table for each unit that has a
    member; at most seven a group.
    """
    from curation.ledger import score_tables as scores

    members = [member for group in groups for member in (group.stays, *group.goes)]
    wanted = {member.unit for member in members}
    where = {number: shard for number, shard in enumerate(shards) if number in wanted}
    index = {
        unit: scores.read(work.scored, shard, work.columns[0], ["offset", "length"]) for unit, shard in where.items()
    }
    places = {}
    for member in members:
        row = index[member.unit].slice(member.row, 1).to_pylist()[0]
        shard = where[member.unit]
        source = {"source_key": shard.key, "source_etag": shard.etag}
        places[member.uid] = {**source, "source_offset": row["offset"], "source_length": row["length"]}
    store = work.corpus.store()
    limits, caption = work.recipe.limits, work.recipe.caption
    return cache(lambda uid: content_at(store, places[uid], limits, caption))  # settings have groups in common
