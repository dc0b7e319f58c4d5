"""What all documents have in common: how they are read, and what an error says of one that is damaged."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from curation.core.errors import LedgerError, NotFoundError
from curation.storage.store import Store

REPAIR = "`curate repair OUT --apply` rebuilds it from the inputs"
RESCORE = "`curate run RECIPE --check-scores` scores it again"  # scores may be shared, so nothing names their dataset
RESTORE = "restore it from a backup"
SHOWN = 5  # fields of one document that an error names

Count = Annotated[int, Field(ge=0, le=(1 << 63) - 1)]
Number = Annotated[float, Field(allow_inf_nan=False)]  # strict: whole numbers are floats, too
Text = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Uid = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


def repair(root: str) -> str:
    """`REPAIR` for the dataset at `root`."""
    return REPAIR.replace("OUT", root.removeprefix("file://"))


class Document(BaseModel):
    """A frozen JSON object. By attribute it is typed; by key it is the plain JSON, as it was committed."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    def to_json(self) -> dict[str, Any]:
        """The JSON as it was committed, without defaults."""
        return self.model_dump(exclude_unset=True)

    def __getitem__(self, name: str) -> Any:
        try:
            value = getattr(self, name) if name in type(self).model_fields else (self.model_extra or {})[name]
        except KeyError:
            raise KeyError(name) from None
        return _plain(value)

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def get(self, name: str, default: Any = None) -> Any:
        """The value under a key; `default` where the document doesn't have it."""
        try:
            return self[name]
        except KeyError:
            return default

    def keys(self) -> list[str]:
        """The keys that were committed, and those that have defaults."""
        return [*type(self).model_fields, *(self.model_extra or {})]


def _plain(value: Any) -> Any:
    if isinstance(value, Document):
        return value.to_json()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


D = TypeVar("D", bound=Document)


def read(store: Store, key: str, kind: type[D], fix: str) -> D:
    """The document at a key. Raises `NotFoundError`, and `LedgerError` with `fix` where it is damaged."""
    return store.get_parsed(key, lambda data: parse(data, kind, store.location(key), fix))


def read_json(store: Store, key: str, kind: type[Document], fix: str) -> dict[str, Any]:
    """The JSON at a key exactly as it was put, after it was read as a document of this kind."""

    def checked(data: bytes) -> dict[str, Any]:
        parse(data, kind, store.location(key), fix)
        found: dict[str, Any] = from_json(data)
        return found

    return store.get_parsed(key, checked)


def find(store: Store, key: str, kind: type[D], fix: str) -> D | None:
    """The same, or None where there is none."""
    try:
        return read(store, key, kind, fix)
    except NotFoundError:
        return None


def parse(data: bytes, kind: type[D], where: str, fix: str) -> D:
    """A document from its bytes. Raises `LedgerError` that names `where` it lies, and its fields that are wrong."""
    try:
        found = kind.model_validate_json(data)
    except ValidationError as error:
        raise damaged(error, data, where, fix) from None
    expect_single_keys(data, where, fix)
    return found


def strict_json(data: bytes) -> Any:
    """Any JSON value, read as strictly as a document: `ValueError` for NaN, lone surrogates, nesting deeper than 200
    and a key that stands twice in one object."""
    found = from_json(data, allow_inf_nan=False)
    _load_single(data)
    return found


def expect_single_keys(data: bytes, where: str, fix: str) -> None:
    """Raise `LedgerError` for a key that stands twice in one object: of two values, readers take one or the other."""
    try:
        _load_single(data)
    except ValueError as error:
        raise LedgerError(f"{where} is damaged: {error}", fix=fix) from None


def _load_single(data: bytes) -> None:
    """Raise `ValueError` for a repeated key. `data` has been parsed before, so its nesting is bounded."""
    json.loads(data, object_pairs_hook=_single)


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        name = next(name for n, (name, _) in enumerate(pairs) if any(name == other for other, _ in pairs[:n]))
        raise ValueError(f"the key `{name[:40]}` stands twice in one object")
    return found


def damaged(error: ValidationError, data: bytes, where: str, fix: str) -> LedgerError:
    """The error of one line for a document that pydantic refused."""
    return LedgerError(f"{where} is damaged: {_what(error, data)}", fix=fix)


def _what(error: ValidationError, data: bytes) -> str:
    """What is wrong with a document, in words."""
    if not data:
        return "it is empty"
    found = error.errors(include_url=False, include_input=False, include_context=False)
    if any(item["type"] == "json_invalid" for item in found):
        return "it is not JSON"
    fields = list(dict.fromkeys(_name(item["type"], item["loc"]) for item in found))
    if not all(fields):
        said = next(item for item in found if not _name(item["type"], item["loc"]))
        return _said(said["msg"]) if said["type"] == "value_error" else "it is not a JSON object"
    listed = [f"`{name}`" for name in fields[:SHOWN]]
    if len(fields) > SHOWN:
        listed.append(f"{len(fields) - SHOWN} more")
    if len(listed) == 1:
        wrong = next((_said(item["msg"]) for item in found if item["type"] == "value_error"), "")
        return f"field {listed[0]} is missing or invalid" + (f": {wrong}" if wrong else "")
    return f"fields {', '.join(listed[:-1])} and {listed[-1]} are missing or invalid"


def _name(kind: str, place: tuple[int | str, ...]) -> str:
    """`inputs[0].size`; without the kind of record that pydantic puts first."""
    if kind.startswith("union_tag"):
        return "kind"
    parts = place[1:] if place and place[0] in ("score", "write") else place
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")


def _said(message: str) -> str:
    return message.removeprefix("Value error, ")
