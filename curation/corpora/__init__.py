"""Real corpora that anybody can build: installed packages in, WebDataset shards out.

A corpus is one module with a `build(store, *, limit, samples_per_shard, workers, seed, progress)` and one line in the
table. Everything heavy is imported by `builder`, so the table is free to read.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

from curation.core.errors import UnknownNameError

if TYPE_CHECKING:
    from curation.corpora.built import Build

CORPORA = {
    "openmoji-icons": "28,000 emoji, icons and logos with names in 14 languages (OpenMoji, Phosphor, Tabler, "
    "Simple Icons, Octicons)",
}


def builder(name: str) -> Build:
    """The `build` function of a corpus in the table."""
    if name not in CORPORA:
        nearest = get_close_matches(name, CORPORA, 1, 0)[0]
        raise UnknownNameError(f"no corpus named {name!r}", fix=f"did you mean {nearest!r}?")
    build: Build = import_module(f"curation.corpora.{name.replace('-', '_')}").build
    return build


__all__ = [
    "CORPORA",
    "builder",
    "built",
]
