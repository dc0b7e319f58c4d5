"""Table entries (scorers, filters, ...) that other installed packages register through entry points."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from curation.core.errors import UserError

Entry = TypeVar("Entry")

_FIX = "ask the package's maintainer to fix it, or uninstall the package"


def with_installed(
    group: str, table: Mapping[str, type[Entry]], protocol: type[Any] = object
) -> dict[str, type[Entry]]:
    """Return `table` extended by the classes that installed packages register in the entry point group `group`.

    Raises `UserError` for a name that is already in the table, a class that can't be imported, a class without one of
    the methods of `protocol`, and a class that is not itself a frozen dataclass: its fields are its configuration and
    enter its fingerprint.
    """
    found = dict(table)
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        origin = f"{group}: {point.name} of {point.dist.name if point.dist else 'a package'} ({point.value})"
        if point.name in found:
            raise UserError(f"{origin}: the name {point.name} is already taken", fix=_FIX)
        found[point.name] = _load(point, origin, protocol)
    return found


def _load(point: EntryPoint, origin: str, protocol: type[Any]) -> Any:
    try:
        cls = point.load()
    except Exception as error:  # noqa: BLE001  (importing another package's code can raise anything)
        raise UserError(f"{origin} can't be imported: {type(error).__name__}: {error}", fix=_FIX) from None
    decorated = vars(cls).get("__dataclass_params__") if isinstance(cls, type) else None  # not inherited ones
    if decorated is None or not decorated.frozen:
        raise UserError(f"{origin} is not a frozen dataclass", fix="decorate it: @dataclass(frozen=True, kw_only=True)")
    if missing := [name for name in vars(protocol) if not name.startswith("_") and not hasattr(cls, name)]:
        raise UserError(f"{origin} has no {', '.join(missing)}", fix=_FIX)
    return cls
