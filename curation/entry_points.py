"""Entries of a room's table that other installed packages bring along."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from curation.errors import UserError

Entry = TypeVar("Entry")

_FIX = "uninstall that package, or have it mended"


def with_installed(group: str, table: Mapping[str, type[Entry]]) -> dict[str, type[Entry]]:
    """`table`, and the classes that installed packages name in the entry point `group`.

    Raises `UserError` for a name that the table has already, a class that can't be imported, and one that is no frozen
    dataclass: its fields are its configuration, and it is a part of what a fingerprint is made from.
    """
    found = dict(table)
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        origin = f"{group}: {point.name} of {point.dist.name if point.dist else 'a package'} ({point.value})"
        if point.name in found:
            raise UserError(f"{origin}: there is a {point.name} already", fix=_FIX)
        found[point.name] = _class(point, origin)
    return found


def _class(point: EntryPoint, origin: str) -> Any:
    try:
        cls = point.load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"{origin} can't be imported: {error}", fix=_FIX) from None
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls) and vars(cls)["__dataclass_params__"].frozen):
        raise UserError(f"{origin} is no frozen dataclass", fix=_FIX)
    return cls
