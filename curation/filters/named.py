"""Filters with the names that a recipe gives them, the columns they read, and their settings for fingerprints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from curation.filters import Filter
from curation.shards.unit_reader import INDEX_SCHEMA

#: Columns of the index that filters can read. The engine uses the others itself, except `members`, a list.
READABLE = [name for name in INDEX_SCHEMA.names if name not in {"row", "uid", "reason", "detail", "members"}]


@dataclass(frozen=True)
class NamedFilter:
    """A filter and its name in the recipe, under which its reasons are counted."""

    name: str
    filter: Filter
    place: str = field(default="", compare=False)  # file:line of the entry in the recipe


def described(item: Filter) -> list[Any]:
    """Everything that determines a filter's drops, as JSON: class, fields, and the code version where it is not 1.

    The parts of a combination are described in the same way, recursively. A field that a later version added (`added`)
    is left out while it has its default, so that earlier snapshots stay current.
    """
    defaults = {name: getattr(type(item), name) for name in getattr(item, "added", ())}
    fields = {
        name: [described(part) for part in value] if isinstance(value, tuple) and name == "of" else value
        for name, value in vars(item).items()
        if name not in defaults or value != defaults[name]
    }
    code = getattr(item, "code", 1)
    return [type(item).__name__, fields, *([code] if code != 1 else [])]


def columns_needed(filters: Sequence[NamedFilter]) -> tuple[list[str], list[str]]:
    """Names of the index columns, and of the score columns, that the filters read; each sorted."""
    names = sorted({name for item in filters for name in item.filter.columns()})
    return [n for n in names if n in INDEX_SCHEMA.names], [n for n in names if n not in INDEX_SCHEMA.names]
