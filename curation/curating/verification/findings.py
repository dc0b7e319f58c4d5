"""Findings: what is wrong with one object, and what can be done about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

MOST_FIELDS = 6  # that one finding names


@dataclass(frozen=True)
class Finding:
    """One damaged object. Either `how` says how `curate repair` mends it, or `why` says why it can't and what to do."""

    code: str  # the kind of damage, for machines
    object: str  # where the damaged object lies
    what: str  # what is wrong with it, by field where it has fields
    how: str = ""
    why: str = ""
    mended: bool = False

    def done(self, mended: bool) -> Finding:
        """The same finding; `mended`: the object has been rebuilt."""
        return replace(self, mended=mended)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.object}: {self.what} [{self.code}]"


def differing(expected: Any, found: Any, above: str = "") -> list[str]:
    """The paths, such as `inputs[0].kept`, at which two JSON values differ. Keys that `expected` lacks are not compared
    at the top level: a newer version may have written them."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        names = expected.keys() if not above else [*expected, *(name for name in found if name not in expected)]
        dot = f"{above}." if above else ""
        return [path for name in names for path in _below(expected, found, name, f"{dot}{name}")]
    if _is_list(expected) and _is_list(found) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return [path for at, (one, other) in pairs for path in differing(one, other, f"{above}[{at}]")]
    same = expected == found and type(expected) is type(found)  # readers are strict: 3.0 and true are not 3 and 1
    return [] if same else [above]


def _below(expected: Mapping[str, Any], found: Mapping[str, Any], name: str, path: str) -> list[str]:
    if name in expected and name in found:
        return differing(expected[name], found[name], path)
    return [path]


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def listed(names: Sequence[str]) -> str:
    """`a, b and c`; of many, the first few."""
    shown = [*names[:MOST_FIELDS], *([f"{len(names) - MOST_FIELDS} more"] if len(names) > MOST_FIELDS else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def fields_of(names: Sequence[str]) -> str:
    """``field `a` `` or ``fields `a` and `b` ``."""
    return ("field " if len(names) == 1 else "fields ") + listed([f"`{name}`" for name in names])


def fields_differ(names: Sequence[str], other: str) -> str:
    """``field `a` differs from other`` or ``fields `a` and `b` differ from other``."""
    return f"{fields_of(names)} {'differs' if len(names) == 1 else 'differ'} from {other}"
