"""YAML documents that are validated line by line: what every kind of recipe shares.

A document is a pydantic model; an entry of a room is a dataclass of its table, chosen by name. Every mistake is one
line that names the file's line and the nearest valid key.
"""

from __future__ import annotations

import dataclasses
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, ValidationInfo, field_validator

from curation.core.errors import RecipeError, TutelageError, UnknownNameError, locating
from curation.core.yaml_text import LARGEST_TEXT, load
from curation.recipes.yaml_overrides import nearest, override, shown
from curation.storage.urls import LONGEST, PATIENCE, StoreOptions


class Section(BaseModel):
    """A part of a recipe; unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if told := _no_number(cls.model_fields[str(info.field_name)].annotation, value):
            raise ValueError(told)
        return value


class StoreSection(Section):
    """Where the object store is, and how patiently it is asked. Credentials come from the environment, a profile or the
    machine, never from here."""

    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    # Seconds that any request may go on failing without progress before the run stops.
    patience: float = Field(default=PATIENCE, gt=0, le=LONGEST)


Document = TypeVar("Document", bound=Section)

_OPEN = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")


def read_recipe(path: str | Path) -> str:
    """The text of a recipe file, or of a pipe that is open already (`<(...)`, /dev/stdin)."""
    named = "give the path of a YAML file"
    try:
        descriptor = os.open(
            path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        )  # a FIFO that nobody writes to would wait
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
    """Whether a recipe is one of `curate learn`: those have a learner. False for what can't be read as YAML."""
    try:
        value, _ = load(text)
    except yaml.YAMLError:
        return False
    return isinstance(value, dict) and "learner" in value


def parse_document(
    text: str, cls: type[Document], name: str, overrides: Sequence[str] = (), needs: str = ""
) -> tuple[Document, dict[str, Any], Where]:
    """The validated document, its plain value with the overrides in it, and where its keys stand in the text."""
    try:
        value, lines = load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise RecipeError(f"{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(value, dict):
        raise RecipeError(f"{name}: a recipe is a mapping of keys", fix=needs)
    given: dict[tuple[Any, ...], str] = {}
    locate = Where(name, lines, given)
    for given_text in overrides:
        path, option = override(value, given_text), f"--set {given_text.partition('=')[0]}"
        for loc, other in given.items():
            if loc == path:
                called = "" if other == option else f", once as {other}"
                raise RecipeError(f"{option} is given twice{called}", fix="give it once")
            if loc[: len(path)] == path:
                raise RecipeError(f"{option} takes away what {other} says", fix="give one of them")
        given[path] = option
    _leave_out_the_empty(value, cls)
    for loc, found in _leaves(value, ()):
        at, key = locate(loc), ".".join(map(str, loc))
        if isinstance(found, float) and not isfinite(found):
            raise RecipeError(f"{at}: {key} is {found}: not a finite number", fix="leave out a limit that is none")
        if isinstance(found, str) and not isinstance(loc[-1], int) and re.fullmatch(r"\{\w+\}", found):
            fix = f"curate recipes show NAME --fill {found[1:-1]}=... does, or write it there"
            raise RecipeError(f"{at}: {key} is {found}, which is to be filled in", fix=fix)
    try:
        return cls.model_validate(value), value, locate
    except ValidationError as error:
        raise explain(error, locate, (), cls) from None


def store_options(section: StoreSection, where: Where) -> StoreOptions:
    """How to talk to the store of a recipe. Raises `UserError` for an endpoint that is refused."""
    with locating(f"{where(('store', 'endpoint'))}: store.endpoint"):
        return StoreOptions(**section.model_dump())


def _leave_out_the_empty(value: dict[str, Any], cls: type[Section]) -> None:
    """A key with nothing behind it, all of whose lines are commented out, is as if it were not there."""
    for key, field in cls.model_fields.items():
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        if default is not None and value.get(key, default) is None:
            del value[key]


def build_entry(entry: Any, table: Mapping[str, type[Any]], where: Where, loc: tuple[Any, ...], noun: str) -> Any:
    """One `- name: {fields}` entry of a room as (its name in this recipe, its dataclass)."""
    if len(entry) != 1:
        raise RecipeError(f"{where(loc)}: each {noun} is one `- name: {{fields}}` entry; here are {len(entry)} keys")
    kind, fields = next(iter(entry.items()))
    if kind not in table:
        near = nearest(kind, table)
        fix = f"did you mean {near}?" if near else f"there are: {', '.join(sorted(table))}"
        raise UnknownNameError(f"{where((*loc, kind))}: unknown {noun} {kind}", fix=fix)
    fields = dict(fields or {}) if isinstance(fields, dict | None) else fields
    if not isinstance(fields, dict):
        raise RecipeError(f"{where((*loc, kind))}: {kind} takes a mapping of fields, not {fields!r}")
    name = fields.pop("name", kind)
    if not isinstance(name, str) or not name.isidentifier():
        raise RecipeError(f"{where((*loc, kind))}: name {name!r} must be a word of letters, digits and _")

    def nested(entry: Any, place: tuple[Any, ...]) -> tuple[str, Any]:
        found: tuple[str, Any] = build_entry(entry, table, where, place, noun)
        return found

    cls = table[kind]
    _check_keys(cls, fields, where, (*loc, kind), kind, ("name",))
    try:
        return name, TypeAdapter(cls).validate_python(fields, context=(nested, (*loc, kind)))  # for entries in it
    except ValidationError as error:
        raise explain(error, where, (*loc, kind), cls) from None


def _check_keys(
    cls: type[Any], fields: Mapping[str, Any], where: Where, loc: tuple[Any, ...], owner: str, also: Sequence[str] = ()
) -> None:
    """No key that a dataclass doesn't have, nor one that is a dataclass in it: pydantic would pass over those."""
    names = [field.name for field in dataclasses.fields(cls)]
    if unknown := sorted(set(map(str, fields)) - set(names)):
        raise _unknown_key(where((*loc, unknown[0])), unknown[0], [*names, *also], owner)
    kinds = get_type_hints(cls)
    for name, value in fields.items():
        if told := _no_number(kinds[name], value):
            raise RecipeError(f"{where((*loc, name))}: {owner}.{name} {told}")
        for inner in (kinds[name], *get_args(kinds[name])):
            if isinstance(inner, type) and dataclasses.is_dataclass(inner) and isinstance(value, dict):
                _check_keys(inner, value, where, (*loc, name), f"{owner}.{name}")


def _no_number(kind: Any, value: Any) -> str:
    """What is wrong with `true` where a number or a word is wanted, which pydantic would take for 1; and with 1e999 and
    nan as words, which it would take for numbers."""

    def may_be(some: Any, *wanted: Any) -> bool:
        return some in (*wanted, Any) or any(may_be(part, *wanted) for part in get_args(some))

    if isinstance(value, bool) and not may_be(kind, bool):
        return f"is {str(value).lower()}, which is no number"
    if isinstance(value, str) and may_be(kind, float) and not may_be(kind, str):
        with suppress(ValueError):
            return "" if isfinite(float(value)) else f"is {shown(value)}: not a finite number"
    return ""


def _leaves(value: Any, loc: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """All numbers and words of a document, and where they stand."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(part, (*loc, key))
    else:
        yield loc, value


def explain(error: ValidationError, where: Where, prefix: tuple[Any, ...], cls: type[Any]) -> TutelageError:
    """One of pydantic's findings as one line with the fix: a misspelt key rather than the key it leaves missing."""
    found = [(finding, *_path(cls, finding["loc"], finding["type"] == "extra_forbidden")) for finding in error.errors()]
    # Of a union's branches, the one that says which key is wrong, not that another kind of value would do.
    first, path, owner = min(
        found, key=lambda row: (row[0]["type"] != "extra_forbidden", row[1][-1:] != row[0]["loc"][-1:])
    )
    inner = first.get("ctx", {}).get("error")
    if isinstance(inner, TutelageError) and str(inner).startswith((where.name, "--set ")):  # of an entry in it
        return inner
    loc = (*prefix, *path)
    at, key = where(loc), ".".join(str(part) for part in path)
    if first["type"] == "extra_forbidden":
        return _unknown_key(at, str(path[-1]), list(owner.model_fields), ".".join(map(str, path[:-1])))
    if first["type"] == "missing" and isinstance(path[-1], int):
        return RecipeError(f"{at}: {'.'.join(map(str, path[:-1]))} takes at least {path[-1] + 1} values")
    if first["type"] in {"missing", "missing_argument", "missing_keyword_only_argument"}:
        owner = f" of {prefix[-1]}" if prefix else ""
        return RecipeError(f"{at}: {key}{owner} is missing", fix=f"add `{key}: ...`")
    message = _MESSAGES.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    fix = "put it in quotes" if first["type"] == "string_type" and isinstance(first["input"], int | float) else ""
    return RecipeError(f"{at}: {key or prefix[-1]}: {message[0].lower()}{message[1:]}", fix=fix)


_LIST = "input should be a list, as [a, b]"
_MESSAGES = {
    "list_type": _LIST,
    "tuple_type": _LIST,
    "dict_type": "input should be a mapping of keys to values, as `name: {key: value}`; or `name:` where none are",
    "model_type": "input should be a mapping of its fields to values, as {field: value}",
}
_TAGS = {"bool", "dict", "float", "int", "list[str]", "str", "Ramp"}  # of a union's branches, as pydantic names them


def _path(cls: Any, loc: tuple[Any, ...], unknown: bool) -> tuple[tuple[Any, ...], Any]:
    """Where a finding of pydantic's stands in the document, without the names of a union's branches, and the section
    in which it does. `unknown`: the last part is a key that the section hasn't."""
    path, owner = [], cls
    for part in loc[:-1] if unknown else loc:
        fields = getattr(owner, "model_fields", None)
        if fields is None:
            path += [part] if part not in _TAGS else []
        elif isinstance(part, int) or part in fields:
            path.append(part)
            kinds = (fields[part].annotation, *get_args(fields[part].annotation)) if part in fields else ()
            owner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), owner)
    return (*path, *loc[-1:]) if unknown else tuple(path), owner


def _unknown_key(at: str, key: str, valid: Sequence[str], owner: str) -> RecipeError:
    near = nearest(key, valid)
    within = f" of {owner}" if owner else ""
    fix = f"did you mean {near}?" if near else f"valid keys{within}: {', '.join(sorted(valid))}"
    return RecipeError(f"{at}: unknown key {key}{within}", fix=fix)


@dataclasses.dataclass(frozen=True)
class Where:
    """`file:line` of a location in the document, of the nearest parent where the location isn't written there; `--set
    key` of one that the command line gives, or in which all is from there; both of one in which something is."""

    name: str
    lines: Mapping[tuple[Any, ...], int]
    given: Mapping[tuple[Any, ...], str] = dataclasses.field(default_factory=dict)

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
