"""Write units in parallel: each Ray task commits one group; the driver hands groups out as there is room."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from actors.cluster import map_bounded
from curation.curating.writing import GroupWriter, WriteGroup


def write(writer: GroupWriter, groups: Iterable[WriteGroup], *, workers: int) -> Iterator[dict[str, Any]]:
    """Commit every group; records in the order in which they are finished. Twice `workers` are under way or waiting."""
    yield from map_bounded(writer.write, groups, width=2 * workers)
