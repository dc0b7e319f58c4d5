"""Combinations of filters: intersection, union and complement."""

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
    """Convert `[{name: {fields}}, ...]` of a recipe to filters. `info.context` has the builder and the position."""
    entries = [value] if isinstance(value, dict) else value
    if not isinstance(entries, list | tuple):
        raise ValueError("`of` must be a list of filters, each `name: {fields}`")
    if wrong := [entry for entry in entries if not isinstance(entry, dict | Filter)]:
        raise ValueError(f"each filter of `of` must be `name: {{fields}}`, not {wrong[0]!r}")
    build, loc = info.context or (_without_a_recipe, ())
    places = [(*loc, "of")] if entries is not value else [(*loc, "of", n) for n in range(len(entries))]
    return tuple(
        build(entry, place)[1] if isinstance(entry, dict) else entry
        for entry, place in zip(entries, places, strict=True)
    )


def _without_a_recipe(entry: Any, place: Any) -> Any:
    raise ValueError(f"outside a recipe, `of` takes filter objects, not {entry!r}")


Filters = Annotated[tuple[InstanceOf[Filter], ...], BeforeValidator(_entries)]


@dataclass(frozen=True, kw_only=True)
class _OfFilters:
    of: Filters

    def __post_init__(self) -> None:
        if not self.of:
            raise ValueError("`of` is empty; name at least one filter")
        for item in self.of:
            if isinstance(item, WeightingFilter) and item.weighs():
                without = ", or set `weights: false`" if hasattr(item, "weights") else ""
                name = _snake(type(item).__name__)
                raise ValueError(f"{name} in `of` sets sample weights; make it an entry of its own{without}")

    def columns(self) -> Sequence[str]:
        return tuple(dict.fromkeys(column for item in self.of for column in item.columns()))

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        for item in self.of:
            if isinstance(item, PreparingFilter):
                item.prepare(db)

    def files(self) -> Sequence[PinnedFile]:
        return tuple(file for item in self.of if isinstance(item, FileReadingFilter) for file in item.files())

    def _each(self) -> str:
        """SQL of every drop of every part: id, detail, and the part's index n."""
        parts = (f"SELECT id, detail, {n} AS n FROM ({item.drops()})" for n, item in enumerate(self.of))
        return " UNION ALL ".join(parts)


@dataclass(frozen=True, kw_only=True)
class AllOf(_OfFilters):
    """Keep the samples that all filters in `of` keep: an intersection.

    Unlike successive filters of a recipe, each part sees the same samples: `top_fraction` beside another filter keeps
    the top of all samples, not of those that the other filter keeps.
    Cost: that of its parts, and a hash aggregation of their drops.
    Example: all: {of: [{top_fraction: {score: clip_score, fraction: 0.5}},
      {top_fraction: {score: norm_sim, fraction: 0.5}}]}
    """

    def drops(self) -> str:
        return f"SELECT id, arg_min(detail, n) AS detail FROM ({self._each()}) GROUP BY id"


@dataclass(frozen=True, kw_only=True)
class AnyOf(_OfFilters):
    """Keep the samples that at least one filter in `of` keeps: a union.

    Cost: that of its parts, and a hash join of their drops.
    Example: any: {of: [{threshold: {score: cluster.near_target, min: 1}}, {top_fraction: {score: dfn, fraction: 0.1}}]}
    """

    def drops(self) -> str:
        first, *others = (f"SELECT id FROM ({item.drops()})" for item in self.of)
        return f"SELECT id, '' AS detail FROM ({first})" + "".join(f" SEMI JOIN ({rest}) USING (id)" for rest in others)


@dataclass(frozen=True, kw_only=True)
class NotOf(_OfFilters):
    """Keep the samples that any filter in `of` would drop: to inspect them, or to make two recipes disjoint.

    Matches of a `decontaminate` in `of` are kept, so `curate matches` does not list them: it lists dropped samples.
    Cost: that of its parts, and a hash join with their drops.
    Example: not: {of: [{one_of: {column: format, values: [webp]}}]}
    """

    def drops(self) -> str:
        return f"SELECT id, '' AS detail FROM alive ANTI JOIN ({self._each()}) AS dropped USING (id)"


def _snake(name: str) -> str:
    """Convert a class's name to its name in a recipe: `SoftCap` -> `soft_cap`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def flat(filters: Iterable[Filter]) -> Iterator[Filter]:
    """Yield each filter and, after a combination, its parts, recursively."""
    for item in filters:
        yield item
        if isinstance(item, _OfFilters):
            yield from flat(item.of)
