"""The edits of a recipe: its edit lists and its lists `keep`, `drop` and `weights`, merged into one table.

The short forms are edits like all others. One thing more follows from a list `weights:`, which names every sample that
training may see: a sample that has no weight is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from curation.ledger.edit_lists import EDIT_SCHEMA, EditList, parse_edit_list
from curation.ledger.edit_merging import Named, edits_of, merge
from curation.ledger.uid_lists import UidList, parse_list

SHORT_FORMS = ("keep", "drop", "weights")  # in the order in which they are merged, before the edit lists
_PREFIX = "edits_"  # no dot: the name of an object below `data/` begins with it


@dataclass(frozen=True)
class RecipeEdits:
    """Merged edits (`EDIT_SCHEMA`), and whether a sample without a weight is dropped.

    added: all edits of the samples that the verb `add` names; `table` has the others.
    """

    table: pa.Table = field(default_factory=EDIT_SCHEMA.empty_table)
    only_weighted: bool = False
    added: pa.Table = field(default_factory=EDIT_SCHEMA.empty_table)

    @property
    def adds(self) -> pa.Table:
        """The edits with the verb `add`."""
        return self.added.filter(pc.equal(self.added.column("verb"), "add"))

    def __bool__(self) -> bool:
        return self.table.num_rows > 0 or self.only_weighted


def list_name(place: int) -> str:
    """Return the name under which a snapshot's document has the edit list at a place of the recipe (from 0)."""
    return f"{_PREFIX}{place:04}"


def place_of(name: str) -> int | None:
    """Return the place of an edit list in the recipe, from its name in a snapshot's document; None for another list."""
    number = name.removeprefix(_PREFIX)
    return int(number) if name.startswith(_PREFIX) and number.isascii() and number.isdigit() else None


def parse_named(name: str, data: bytes, url: str) -> UidList | EditList:
    """Parse a list by its name in a snapshot's document; `url` is named in errors. Raises `UserError`."""
    return parse_list(name, data, url) if place_of(name) is None else parse_edit_list(data, url)


def merged(lists: Mapping[str, UidList | EditList], urls: Mapping[str, str], *, last_wins: bool) -> RecipeEdits:
    """Merge a recipe's lists: the short forms first, then the edit lists in their order.

    lists: by name, as a snapshot's document has them. urls: their URLs, for messages. Raises `ContradictingEditsError`.
    """
    if not lists:
        return RecipeEdits()
    table = merge(named_tables(lists, urls), last_wins=last_wins)
    uids = table.filter(pc.equal(table.column("verb"), "add")).column("uid")
    if not len(uids):
        return RecipeEdits(table, only_weighted="weights" in lists)
    own = pc.is_in(table.column("uid"), value_set=uids.combine_chunks())
    return RecipeEdits(table.filter(pc.invert(own)), "weights" in lists, table.filter(own))


def adds_samples(item: EditList) -> bool:
    """Whether some edit of a list has the verb `add`."""
    found: int = pc.index(item.table.column("verb"), "add").as_py()
    return found >= 0


def named_tables(lists: Mapping[str, UidList | EditList], urls: Mapping[str, str]) -> Sequence[Named]:
    """Return the rows of each list with its name for messages, in the order of the merge."""
    found: list[Named] = []
    for name in SHORT_FORMS:
        item = lists.get(name)
        if isinstance(item, UidList):
            found.append((f"the {name} list {urls.get(name, '')}".rstrip(), edits_of(name, item)))
    for name, item in sorted(lists.items()):
        if isinstance(item, EditList):
            found.append((urls.get(name, name), item.table))
    return found
