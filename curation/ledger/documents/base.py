"""The base of all documents: reading, strict parsing, and the error for a damaged document."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from curation.core.errors import LedgerError, NotFoundError
from curation.storage.store import Store

REPAIR = "`curate repair OUT --apply` rebuilds it from the inputs"
RESCORE = "`curate run RECIPE --check-scores` scores it again"  # scores may be shared, so they name no dataset
RESTORE = "restore it from a backup"
SHOWN = 5  # invalid fields that an error names

Count = Annotated[int, Field(ge=0, le=(1 << 63) - 1)]
Number = Annotated[float, Field(allow_inf_nan=False)]  # integers are accepted, too
Text = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Uid = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


def repair(root: str) -> str:
    """Return `REPAIR` for the dataset at `root`."""
    return REPAIR.replace("OUT", root.removeprefix("file://"))


class Document(BaseModel):
    """A frozen JSON object. Attributes are typed; keys (`document["name"]`) give the plain JSON, as committed."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON as committed, without defaults."""
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
        """Return the value under a key, or `default` if the document has none."""
        try:
            return self[name]
        except KeyError:
            return default

    def keys(self) -> list[str]:
        """Return the committed keys and the keys with defaults."""
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
    """Read the document at `key` as a `kind`. Raises `NotFoundError`, and `LedgerError` with `fix` if it is damaged."""
    return store.get_parsed(key, lambda data: parse(data, kind, store.location(key), fix))


def read_json(store: Store, key: str, kind: type[Document], fix: str) -> dict[str, Any]:
    """Return the JSON at `key` exactly as it was put, after checking that it is a `kind`. Raises what `read` raises."""

    def checked(data: bytes) -> dict[str, Any]:
        parse(data, kind, store.location(key), fix)
        found: dict[str, Any] = from_json(data)
        return found

    return store.get_parsed(key, checked)


def find(store: Store, key: str, kind: type[D], fix: str) -> D | None:
    """Read the document at `key` as a `kind`, or return None if there is none. Raises `LedgerError`: see `read`."""
    try:
        return read(store, key, kind, fix)
    except NotFoundError:
        return None


def parse(data: bytes, kind: type[D], where: str, fix: str) -> D:
    """Parse a document. Raises `LedgerError`, which names its location (`where`), the invalid fields, and `fix`."""
    try:
        found = kind.model_validate_json(data)
    except ValidationError as error:
        raise damaged(error, data, where, fix) from None
    expect_single_keys(data, where, fix)
    return found


def strict_json(data: bytes) -> Any:
    """Parse any JSON value as strictly as a document.

    Raises `ValueError` for NaN, lone surrogates, nesting deeper than 200, and repeated keys.
    """
    found = from_json(data, allow_inf_nan=False)
    _load_single(data)
    return found


def expect_single_keys(data: bytes, where: str, fix: str) -> None:
    """Raise `LedgerError` for a repeated key, because readers disagree about which of the two values counts."""
    try:
        _load_single(data)
    except ValueError as error:
        raise LedgerError(f"{where} is damaged: {error}", fix=fix) from None


def _load_single(data: bytes) -> None:
    """Raise `ValueError` for a repeated key. `data` must have been parsed before, so that its nesting is bounded."""
    json.loads(data, object_pairs_hook=_single)


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        name = next(name for n, (name, _) in enumerate(pairs) if any(name == other for other, _ in pairs[:n]))
        raise ValueError(f"the key `{name[:40]}` is repeated in one object")
    return found


def damaged(error: ValidationError, data: bytes, where: str, fix: str) -> LedgerError:
    """Return the one-line error for a document that pydantic rejected."""
    return LedgerError(f"{where} is damaged: {_explain(error, data)}", fix=fix)


def _explain(error: ValidationError, data: bytes) -> str:
    """Say what is wrong with a document."""
    if not data:
        return "it is empty"
    found = error.errors(include_url=False, include_input=False, include_context=False)
    if any(item["type"] == "json_invalid" for item in found):
        return "it is not JSON"
    fields = list(dict.fromkeys(_name(item["type"], item["loc"]) for item in found))
    if not all(fields):
        whole = next(item for item in found if not _name(item["type"], item["loc"]))
        return _message(whole["msg"]) if whole["type"] == "value_error" else "it is not a JSON object"
    listed = [f"`{name}`" for name in fields[:SHOWN]]
    if len(fields) > SHOWN:
        listed.append(f"{len(fields) - SHOWN} more")
    if len(listed) == 1:
        wrong = next((_message(item["msg"]) for item in found if item["type"] == "value_error"), "")
        return f"field {listed[0]} is missing or invalid" + (f": {wrong}" if wrong else "")
    return f"fields {', '.join(listed[:-1])} and {listed[-1]} are missing or invalid"


def _name(kind: str, place: tuple[int | str, ...]) -> str:
    """Format a field's path, such as `inputs[0].size`, without the kind of record that pydantic puts first."""
    if kind.startswith("union_tag"):
        return "kind"
    parts = place[1:] if place and place[0] in ("score", "write") else place
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")


def _message(message: str) -> str:
    return message.removeprefix("Value error, ")
