"""Filters as a recipe names them: what they read, and what decides their drops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from curation.filters import Filter
from curation.shards.unit_reader import INDEX_SCHEMA

#: Columns of the index that filters can read; the engine has others for itself, or (a list) not at all.
READABLE = [name for name in INDEX_SCHEMA.names if name not in {"row", "uid", "reason", "detail", "members"}]


@dataclass(frozen=True)
class NamedFilter:
    """A filter under the name by which its reasons are counted."""

    name: str
    filter: Filter
    place: str = field(default="", compare=False)  # file:line in the recipe


def described(item: Filter) -> list[Any]:
    """What decides a filter's drops, as JSON: its type, fields, and its code's version where it is not the first; of
    one made of others, theirs."""
    fields = {
        name: [described(part) for part in value] if isinstance(value, tuple) and name == "of" else value
        for name, value in vars(item).items()
    }
    code = getattr(item, "code", 1)
    return [type(item).__name__, fields, *([code] if code != 1 else [])]


def columns_needed(filters: Sequence[NamedFilter]) -> tuple[list[str], list[str]]:
    """(index columns, score columns) that the filters read."""
    names = sorted({name for item in filters for name in item.filter.columns()})
    return [n for n in names if n in INDEX_SCHEMA.names], [n for n in names if n not in INDEX_SCHEMA.names]
