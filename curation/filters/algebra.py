"""Filters made of filters: all of them, any of them, the contrary of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, InstanceOf, ValidationInfo

from curation.filters.filter import FileReadingFilter, Filter, PreparingFilter, WeightingFilter

if TYPE_CHECKING:
    import duckdb

    from curation.storage.pinned_file import PinnedFile


def _entries(value: Any, info: ValidationInfo) -> Any:
    """`[{name: {fields}}, ...]` as a recipe has it, as filters. `info` says where in the recipe it stands."""
    entries = [value] if isinstance(value, dict) else value
    if not isinstance(entries, list | tuple):
        raise ValueError("of is a list of filters, each `name: {fields}`")
    if wrong := [entry for entry in entries if not isinstance(entry, dict | Filter)]:
        raise ValueError(f"each filter of `of` is `name: {{fields}}`; here is {wrong[0]!r}")
    build, loc = info.context or (_without_a_recipe, ())
    places = [(*loc, "of")] if entries is not value else [(*loc, "of", n) for n in range(len(entries))]
    return tuple(
        build(entry, place)[1] if isinstance(entry, dict) else entry
        for entry, place in zip(entries, places, strict=True)
    )


def _without_a_recipe(entry: Any, place: Any) -> Any:
    raise ValueError(f"outside of a recipe, `of` takes filters, not {entry!r}")


Filters = Annotated[tuple[InstanceOf[Filter], ...], BeforeValidator(_entries)]


@dataclass(frozen=True, kw_only=True)
class _OfFilters:
    of: Filters

    def __post_init__(self) -> None:
        if not self.of:
            raise ValueError("of is empty: name at least one filter")
        for item in self.of:
            if isinstance(item, WeightingFilter) and item.weighs():
                without = ", or with `weights: false`" if hasattr(item, "weights") else ""
                raise ValueError(f"{_snake(type(item).__name__)} in it gives weights: name that by itself{without}")

    def columns(self) -> Sequence[str]:
        return tuple(dict.fromkeys(column for item in self.of for column in item.columns()))

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        for item in self.of:
            if isinstance(item, PreparingFilter):
                item.prepare(db)

    def files(self) -> Sequence[PinnedFile]:
        return tuple(file for item in self.of if isinstance(item, FileReadingFilter) for file in item.files())

    def _each(self) -> str:
        """Every drop of every part: id, detail, and the part's number."""
        parts = (f"SELECT id, detail, {n} AS n FROM ({item.drops()})" for n, item in enumerate(self.of))
        return " UNION ALL ".join(parts)


@dataclass(frozen=True, kw_only=True)
class AllOf(_OfFilters):
    """Keep what every one of the filters in `of` keeps.

    Unlike a list of them in the recipe, each sees the same samples: so `top_fraction` beside another filter means the
    top of all, not of what the other left.
    Cost: that of its parts, and a hash aggregation of what they drop.
    Example: all: {of: [{top_fraction: {score: clip_score, fraction: 0.5}},
      {top_fraction: {score: norm_sim, fraction: 0.5}}]}
    """

    def drops(self) -> str:
        return f"SELECT id, arg_min(detail, n) AS detail FROM ({self._each()}) GROUP BY id"


@dataclass(frozen=True, kw_only=True)
class AnyOf(_OfFilters):
    """Keep what at least one of the filters in `of` keeps: a union, where a list of filters is an intersection.

    Cost: that of its parts, and a hash join of what they drop.
    Example: any: {of: [{threshold: {score: cluster.near_target, min: 1}}, {top_fraction: {score: dfn, fraction: 0.1}}]}
    """

    def drops(self) -> str:
        first, *others = (f"SELECT id FROM ({item.drops()})" for item in self.of)
        return f"SELECT id, '' AS detail FROM ({first})" + "".join(f" SEMI JOIN ({rest}) USING (id)" for rest in others)


@dataclass(frozen=True, kw_only=True)
class NotOf(_OfFilters):
    """Keep what any of the filters in `of` would drop: to look at it, or to keep two recipes apart.

    What a `decontaminate` in it finds is kept, and not in the list of `curate matches`, which is of what was dropped.
    Cost: that of its parts, and a hash join with what they drop.
    Example: not: {of: [{one_of: {column: format, values: [webp]}}]}
    """

    def drops(self) -> str:
        return f"SELECT id, '' AS detail FROM alive ANTI JOIN ({self._each()}) AS gone USING (id)"


def _snake(name: str) -> str:
    """`SoftCap` -> `soft_cap`: what a recipe calls a filter of this class."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def flat(filters: Iterable[Filter]) -> Iterator[Filter]:
    """Filters and, of those that are made of others, their parts."""
    for item in filters:
        yield item
        if isinstance(item, _OfFilters):
            yield from flat(item.of)
