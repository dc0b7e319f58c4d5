"""What pydantic finds in a recipe, as one line with the file's line, the key and the fix."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import isfinite
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ValidationError

from curation.core.errors import RecipeError, TutelageError
from curation.recipes.locations import Where
from curation.recipes.yaml_overrides import nearest_name, shown

_UNKNOWN = {"extra_forbidden", "unexpected_keyword_argument"}
_MISSING = {"missing", "missing_argument", "missing_keyword_only_argument"}
_LIST = "input should be a list, as [a, b]"
_MESSAGES = {
    "list_type": _LIST,
    "tuple_type": _LIST,
    "dict_type": "input should be a mapping of keys to values, as `name: {key: value}`; an empty one is `name:`",
    "model_type": "input should be a mapping of its fields to values, as {field: value}",
}
_TAGS = {"bool", "dict", "float", "int", "list[str]", "str", "Ramp"}  # pydantic's names for the branches of a union


def explain(error: ValidationError, where: Where, prefix: tuple[Any, ...], cls: type[Any]) -> TutelageError:
    """Return one finding of pydantic as an error: a misspelt key rather than the key that is missing because of it.

    `prefix`: the path of the validated value in the document. `cls`: the model or dataclass that it was validated as.
    """
    found = [(finding, *_path(cls, finding["loc"], finding["type"] in _UNKNOWN)) for finding in error.errors()]
    first, path, owner = min(found, key=lambda row: _rank(row[0], row[1]))
    inner = first.get("ctx", {}).get("error")
    if isinstance(inner, TutelageError) and (where.begins(str(inner)) or not (prefix or path)):
        return inner  # located by an entry in it, or by a check of the whole recipe
    loc = (*prefix, *path)
    at, key = where(loc), ".".join(str(part) for part in path)
    if first["type"] in _UNKNOWN:
        return unknown_key(at, str(path[-1]), list(_fields(owner)), ".".join(map(str, loc[:-1])))
    if first["type"] == "missing" and isinstance(path[-1], int):
        return RecipeError(f"{at}: {'.'.join(map(str, path[:-1]))} takes at least {path[-1] + 1} values")
    if first["type"] in _MISSING:
        of = f" of {prefix[-1]}" if prefix else ""
        return RecipeError(f"{at}: {key}{of} is missing", fix=f"add `{key}: ...`")
    subject = key or (prefix[-1] if prefix else "the recipe")
    if isinstance(inner, TutelageError):
        return type(inner)(f"{at}: {subject}: {inner}", fix=inner.fix)
    message = _MESSAGES.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    fix = "put it in quotes" if first["type"] == "string_type" and isinstance(first["input"], int | float) else ""
    return RecipeError(f"{at}: {subject}: {message[0].lower()}{message[1:]}", fix=fix)


def _rank(finding: Any, path: tuple[Any, ...]) -> int:
    """The order in which findings are reported: the lowest first.

    Of a union's branches, the one that knows which key or value is wrong is better than one that wants another type.
    """
    if finding["type"] in _UNKNOWN:
        return 0
    if path[-1:] == finding["loc"][-1:]:
        return 1
    return 2 if finding["type"] == "value_error" else 3


def unknown_key(at: str, key: str, valid: Sequence[str], owner: str) -> RecipeError:
    """Error for a key that `owner` doesn't have, with the nearest valid key as the fix."""
    near = nearest_name(key, valid)
    within = f" of {owner}" if owner else ""
    fix = f"did you mean {near}?" if near else f"valid keys{within}: {', '.join(sorted(valid))}"
    return RecipeError(f"{at}: unknown key {key}{within}", fix=fix)


def not_a_number(kind: Any, value: Any) -> str:
    """Return what is wrong with a value that pydantic would convert to a number, or "" if nothing is.

    `true` would become 1; the strings "nan" and "1e999" would become floats. `kind`: the annotation of the field, whose
    dataclasses are checked too.
    """

    def may_be(some: Any, *wanted: Any) -> bool:
        return some in (*wanted, Any) or any(may_be(part, *wanted) for part in get_args(some))

    if isinstance(value, bool) and not may_be(kind, bool):
        return f"is {str(value).lower()}, which is not a number"
    if isinstance(value, str) and may_be(kind, float) and not may_be(kind, str):
        with suppress(ValueError):
            return "" if isfinite(float(value)) else f"is {shown(value)}: not a finite number"
    if isinstance(value, dict):
        for part in (kind, *get_args(kind)):
            for name, inner in _fields(part).items() if dataclasses.is_dataclass(part) else ():
                if name in value and (wrong := not_a_number(inner, value[name])):
                    return f"{name} {wrong}"
    return ""


def check_keys(
    cls: type[Any], fields: Mapping[str, Any], where: Where, loc: tuple[Any, ...], owner: str, also: Sequence[str] = ()
) -> None:
    """Raise `RecipeError` for an unknown key of the dataclass `cls` or of one within it, and for `true` as a number.

    pydantic would accept both. `also`: further keys that are valid.
    """
    kinds = get_type_hints(cls)
    names = [item.name for item in dataclasses.fields(cls)]
    if unknown := sorted(set(map(str, fields)) - set(names)):
        raise unknown_key(where((*loc, unknown[0])), unknown[0], [*names, *also], owner)
    for name, value in fields.items():
        if wrong := not_a_number(kinds[name], value):
            raise RecipeError(f"{where((*loc, name))}: {owner}.{name} {wrong}")
        for inner in (kinds[name], *get_args(kinds[name])):
            if isinstance(inner, type) and dataclasses.is_dataclass(inner) and isinstance(value, dict):
                check_keys(inner, value, where, (*loc, name), f"{owner}.{name}")


def _fields(cls: Any) -> dict[str, Any]:
    """Names and annotations of a model's or a dataclass's fields; none of another type."""
    if isinstance(cls, type) and issubclass(cls, BaseModel):
        return {name: field.annotation for name, field in cls.model_fields.items()}
    if not dataclasses.is_dataclass(cls):
        return {}
    kinds = get_type_hints(cls)
    return {item.name: kinds[item.name] for item in dataclasses.fields(cls)}


def _path(cls: Any, loc: tuple[Any, ...], unknown: bool) -> tuple[tuple[Any, ...], Any]:
    """A finding's path in the document, without the names of a union's branches, and the section that it is in.

    `unknown`: the last part is a key that the section doesn't have.
    """
    path: list[Any] = []
    owner = cls
    for part in loc[:-1] if unknown else loc:
        fields = _fields(owner)
        if not fields:
            path += [part] if part not in _TAGS else []
        elif isinstance(part, int) or part in fields:
            path.append(part)
            kinds = (fields[part], *get_args(fields[part])) if part in fields else ()
            sections = (kind for kind in kinds if isinstance(kind, type) and _fields(kind))
            owner = next(sections, owner)
    return (*path, *loc[-1:]) if unknown else tuple(path), owner
