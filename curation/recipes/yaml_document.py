"""YAML documents, validated line by line: reading, overrides, and entries of the rooms' tables.

A document is a pydantic model; an entry of a room is a dataclass of its table, chosen by name. Every mistake is one
line that names the file's line and the nearest valid key.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from curation.core.errors import RecipeError, UnknownNameError
from curation.core.yaml_text import LARGEST_TEXT, load
from curation.recipes.findings import check_keys, explain
from curation.recipes.locations import Where
from curation.recipes.sections import Document, Reading, Section
from curation.recipes.yaml_overrides import nearest_name, override

AnyDocument = TypeVar("AnyDocument", bound=Document)

_OPEN = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")


def read_recipe(path: str | Path) -> str:
    """Return the text of a recipe file, or of an open pipe (`<(...)`, /dev/stdin). Raises `RecipeError`."""
    named = "give the path of a YAML file"
    try:
        # Without O_NONBLOCK, opening a FIFO that has no writer would wait for one.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode) and not str(path).startswith(_OPEN):
                raise RecipeError(f"{path} is not a regular file", fix=named)
            os.set_blocking(descriptor, True)
            data = file.read(4 * LARGEST_TEXT + 1)
        if len(data) > 4 * LARGEST_TEXT:
            raise RecipeError(f"{path} is larger than {4 * LARGEST_TEXT >> 20} MiB", fix=named)
        return data.decode()
    except FileNotFoundError:
        raise RecipeError(f"no recipe at {path}", fix=named) from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not UTF-8 at byte {error.start:,}", fix=named) from None
    except OSError as error:
        raise RecipeError(f"{path} can't be read: {error.strerror}", fix=named) from None


def is_of_learning(text: str) -> bool:
    """Whether a recipe is one of `curate learn`: it has the key `learner`. False for a text that is not YAML."""
    try:
        value, _ = load(text)
    except yaml.YAMLError:
        return False
    return isinstance(value, dict) and "learner" in value


def parse_document(
    text: str,
    cls: type[AnyDocument],
    name: str,
    overrides: Sequence[str] = (),
    *,
    needs: str = "",
    of_snapshot: bool = False,
) -> AnyDocument:
    """Validate a recipe's text as the model `cls`. Raises `RecipeError` or another `UserError`, one line each.

    `name`: the file in messages. `overrides`: `key=value` texts of `--set`. `needs`: the fix for a text that is not a
    mapping. `of_snapshot`: see `Reading`.
    """
    try:
        value, lines = load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"{name}:{mark.line + 1}" if mark else name
        raise RecipeError(f"{at}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(value, dict):
        raise RecipeError(f"{name}: a recipe is a mapping of keys", fix=needs)
    where = Where(name, lines, _override(value, overrides))
    _leave_out_the_empty(value, cls)
    _check_values(value, where)
    try:
        return cls.model_validate(value, context=Reading(where, value, of_snapshot))
    except ValidationError as error:
        raise explain(error, where, (), cls) from None


def _override(value: dict[str, Any], overrides: Sequence[str]) -> dict[tuple[Any, ...], str]:
    """Apply `--set` options to the document; return path -> option. Raises `RecipeError` for two of one value."""
    given: dict[tuple[Any, ...], str] = {}
    for text in overrides:
        path, option = override(value, text), f"--set {text.partition('=')[0]}"
        for loc, other in given.items():
            if loc == path:
                called = "" if other == option else f", once as {other}"
                raise RecipeError(f"{option} is given twice{called}", fix="give it once")
            if loc[: len(path)] == path:
                raise RecipeError(f"{option} replaces the value that {other} sets", fix="give one of them")
        given[path] = option
    return given


def _check_values(value: Any, where: Where) -> None:
    """Raise `RecipeError` for a number that is not finite, and for a placeholder of the recipe library."""
    for loc, found in _leaves(value, ()):
        at, key = where(loc), ".".join(map(str, loc))
        if isinstance(found, float) and not isfinite(found):
            raise RecipeError(f"{at}: {key} is {found}: not a finite number", fix="leave the key out for no limit")
        if isinstance(found, str) and not isinstance(loc[-1], int) and re.fullmatch(r"\{\w+\}", found):
            fix = f"`curate recipes show NAME --fill {found[1:-1]}=...`, or replace it in the file"
            raise RecipeError(f"{at}: {key} is the placeholder {found}", fix=fix)


def _leave_out_the_empty(value: dict[str, Any], cls: type[Section]) -> None:
    """Remove keys without a value, such as a section whose lines are all commented out: their defaults apply."""
    for key, field in cls.model_fields.items():
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        if default not in (None, "") and value.get(key, default) is None:
            del value[key]


def build_entry(entry: Any, table: Mapping[str, type[Any]], where: Where, loc: tuple[Any, ...], noun: str) -> Any:
    """Return one `- kind: {fields}` entry as (its name in this recipe, its dataclass of the table).

    `loc`: the path of the entry in the document. `noun`: what the table's entries are, for messages. Raises
    `UnknownNameError` for a kind that the table doesn't have, `RecipeError` or another `UserError` for its fields.
    """
    if len(entry) != 1:
        raise RecipeError(f"{where(loc)}: each {noun} is one `- name: {{fields}}` entry, not {len(entry)} keys")
    kind, fields = next(iter(entry.items()))
    if kind not in table:
        near = nearest_name(kind, table)
        fix = f"did you mean {near}?" if near else f"there are: {', '.join(sorted(table))}"
        raise UnknownNameError(f"{where((*loc, kind))}: unknown {noun} {kind}", fix=fix)
    fields = dict(fields or {}) if isinstance(fields, dict | None) else fields
    if not isinstance(fields, dict):
        raise RecipeError(f"{where((*loc, kind))}: {kind} takes a mapping of fields, not {fields!r}")
    name = fields.pop("name", kind)
    if not isinstance(name, str) or not name.isidentifier():
        raise RecipeError(f"{where((*loc, kind))}: name {name!r} must be a word of letters, digits and _")

    # Filters of filters have entries in their fields, which their validators build with the context.
    def nested(entry: Any, place: tuple[Any, ...]) -> tuple[str, Any]:
        found: tuple[str, Any] = build_entry(entry, table, where, place, noun)
        return found

    cls = table[kind]
    check_keys(cls, fields, where, (*loc, kind), kind, ("name",))
    try:
        return name, TypeAdapter(cls).validate_python(fields, context=(nested, (*loc, kind)))
    except ValidationError as error:
        raise explain(error, where, (*loc, kind), cls) from None


def _leaves(value: Any, loc: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the path and the value of every number and string in a document."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(part, (*loc, key))
    else:
        yield loc, value
