"""Entries of a room's table that other installed packages bring along."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from curation.core.errors import UserError

Entry = TypeVar("Entry")

_FIX = "uninstall that package, or have it mended"


def with_installed(
    group: str, table: Mapping[str, type[Entry]], protocol: type[Any] = object
) -> dict[str, type[Entry]]:
    """`table`, and the classes that installed packages name in the entry point `group`.

    Raises `UserError` for a name that the table has already, a class that can't be imported, one that lacks a method of
    `protocol`, and one that is no frozen dataclass itself: its fields are its configuration, and it is a part of what a
    fingerprint is made from.
    """
    found = dict(table)
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        origin = f"{group}: {point.name} of {point.dist.name if point.dist else 'a package'} ({point.value})"
        if point.name in found:
            raise UserError(f"{origin}: there is a {point.name} already", fix=_FIX)
        found[point.name] = _class(point, origin, protocol)
    return found


def _class(point: EntryPoint, origin: str, protocol: type[Any]) -> Any:
    try:
        cls = point.load()
    except Exception as error:  # noqa: BLE001  (whatever that package does when it is imported)
        raise UserError(f"{origin} can't be imported: {type(error).__name__}: {error}", fix=_FIX) from None
    decorated = vars(cls).get("__dataclass_params__") if isinstance(cls, type) else None  # not its parent's
    if decorated is None or not decorated.frozen:
        raise UserError(f"{origin} is no frozen dataclass", fix="put @dataclass(frozen=True, kw_only=True) above it")
    if lacks := [name for name in vars(protocol) if not name.startswith("_") and not hasattr(cls, name)]:
        raise UserError(f"{origin} has no {', '.join(lacks)}", fix=_FIX)
    return cls
