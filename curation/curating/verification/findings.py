"""Findings: the damage of one object, and its repair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

MOST_FIELDS = 6  # fields that one finding names at most


@dataclass(frozen=True)
class Finding:
    """One damaged object. Either `how` describes its repair, or `why` the reason that prevents it and what to do."""

    code: str  # the kind of damage, for machines
    object: str  # location of the damaged object
    what: str  # the damage, by field where the object has fields
    how: str = ""
    why: str = ""
    mended: bool = False

    def done(self, mended: bool) -> Finding:
        """Copy the finding with `mended`: whether the object has been repaired."""
        return replace(self, mended=mended)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.object}: {self.what} [{self.code}]"


def differing(expected: Any, found: Any, above: str = "") -> list[str]:
    """Paths such as `inputs[0].kept` at which two JSON values differ.

    Top-level keys that are missing in `expected` are not compared: a newer version may have written them. `above`: the
    path of both values.
    """
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
    """Format names as `a, b and c`; of more than `MOST_FIELDS`, the first and the number of others."""
    shown = [*names[:MOST_FIELDS], *([f"{len(names) - MOST_FIELDS} more"] if len(names) > MOST_FIELDS else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def fields_of(names: Sequence[str]) -> str:
    """Format names as ``field `a` `` or ``fields `a` and `b` ``."""
    return ("field " if len(names) == 1 else "fields ") + listed([f"`{name}`" for name in names])


def fields_differ(names: Sequence[str], other: str) -> str:
    """Format names as ``field `a` differs from other`` or ``fields `a` and `b` differ from other``."""
    return f"{fields_of(names)} {'differs' if len(names) == 1 else 'differ'} from {other}"
