"""Locations in a recipe: the file and line of a key, or the `--set` option that gave it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Where:
    """Where each value of a document is written. `where(("filters", 0))` is `recipe.yaml:8`.

    `lines`: path of keys -> line. `given`: path -> the `--set key` that gave its value. A path with neither has the
    location of its nearest parent. A value that is partly from the file and partly from options has both.
    """

    name: str
    lines: Mapping[tuple[Any, ...], int]
    given: Mapping[tuple[Any, ...], str] = field(default_factory=dict)

    def __call__(self, loc: tuple[Any, ...]) -> str:
        if given := [(at, key) for at, key in self.given.items() if loc[: len(at)] == at]:
            at, key = given[-1]
            entry = loc[len(at) :][:1]  # of a list that the option gives: from 0, as options count
            return f"{key}[{entry[0]}]" if entry and isinstance(entry[0], int) else key
        while loc:
            place = f"{self.name}:{self.lines[loc]}" if loc in self.lines else ""
            within = ", ".join(key for at, key in self.given.items() if at[: len(loc)] == loc)
            if place or within:
                return " with ".join(filter(None, (place, within)))
            loc = loc[:-1]
        return self.name

    def begins(self, message: str) -> bool:
        """Whether an error message begins with a location of this document."""
        return message.startswith((self.name, "--set "))
