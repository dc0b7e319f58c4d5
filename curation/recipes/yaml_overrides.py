"""`--set key=value`: replace one value of a parsed document; errors in the value name the option."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import yaml

from curation.core.errors import RecipeError
from curation.core.printable import printable
from curation.core.yaml_text import load


def override(value: dict[str, Any], given: str) -> tuple[Any, ...]:
    """Apply `a.b.2.c=value` to the parsed document in place; return the path of the value.

    A list's entry is named by its number, its `name`, or its kind. Raises `RecipeError`.
    """
    path, eq, text = given.partition("=")
    given = shown(given)
    if not eq or not path or path != shown(path):
        raise RecipeError(f"--set {given}: expected key=value", fix="for example --set shards.samples=1000")
    parts = path.split(".")
    target: Any = value
    loc: list[Any] = []
    kind: Any = None  # of the entry that the path entered last
    for place, part in enumerate(parts[:-1]):
        before, kind = kind, None
        if part == before and part not in target:
            continue  # the entry's kind, as in the file: filters.0.caption.min_words
        if isinstance(target, list):
            at, kind, target = _entry(target, parts[: place + 1], given)
            loc += [at, kind]
        elif isinstance(target, dict):
            target[part] = {} if target.get(part) is None else target[part]
            target = target[part]
            loc.append(part)
        if not isinstance(target, dict | list):
            raise RecipeError(f"--set {given}: {'.'.join(parts[: place + 1])} is not a mapping")
    if isinstance(target, list):
        _entry(target, parts, given)
        fix = f"--set {'.'.join(parts)}.FIELD=... sets one of its fields"
        raise RecipeError(f"--set {given}: {'.'.join(parts)} is an entry of a list", fix=fix)
    try:
        target[parts[-1]], _ = load(text)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or error
        fix = "quote a value that is not YAML by itself: --set 'key=\"*.tar\"'"
        raise RecipeError(f"--set {given}: {shown(text)} is not valid YAML: {problem}", fix=fix) from None
    return (*loc, parts[-1])


def _entry(entries: list[Any], parts: Sequence[str], given: str) -> tuple[int, Any, Any]:
    """Return number, kind and fields of the list's entry that the last of `parts` names.

    `filters.near_target` is an entry's name, `filters.top_fraction` its kind, `filters.1` its number.
    """
    *within, part = parts
    if any(isinstance(entry, str | int | float) for entry in entries):
        where = ".".join(within)
        raise RecipeError(
            f"--set {given}: {where} is a list of values", fix=f"set the whole list: --set '{where}=[a, b]'"
        )
    kinds = {i: next(iter(entry)) for i, entry in enumerate(entries) if isinstance(entry, dict) and len(entry) == 1}
    names = {i: _name(entries[i][kind], kind) for i, kind in kinds.items()}
    if part.isdecimal():
        found = [i for i in kinds if i == int(part)]
    else:
        found = [i for i in kinds if names[i] == part] or [i for i in kinds if kinds[i] == part]
    if len(found) > 1:
        fix = f"name the entry by its number, {' or '.join(f'{i}' for i in found)}, or give the entries names"
        raise RecipeError(f"--set {given}: the list has {len(found)} entries {part}", fix=fix)
    if not found:
        near = nearest_name(part, names.values())
        fix = f"did you mean {near}?" if near else f"the list has {', '.join(names.values()) or 'no entries'}"
        raise RecipeError(f"--set {given}: there is no {part} in the list", fix=fix)
    entry, kind = entries[found[0]], kinds[found[0]]
    entry[kind] = entry[kind] or {}
    return found[0], kind, entry[kind]


def _name(fields: Any, kind: str) -> str:
    """Return the name of an entry: its `name`, else its kind."""
    return str(fields["name"]) if isinstance(fields, dict) and "name" in fields else str(kind)


def nearest_name(word: Any, among: Any) -> str:
    """Return the member of `among` with the most similar spelling, or "" if none is similar."""
    return next(iter(get_close_matches(str(word), list(among), 1, 0.5)), "")


def shown(text: str, length: int = 100) -> str:
    """Return foreign text for an error message: printable, and cut after `length` characters."""
    return printable(text) if len(text) <= length else f"{printable(text[:length])}..."
