"""The rules that all documents share, on a kind of document that exists for the test only."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, ValidationError, model_validator

from curation.core.errors import (
    LedgerError,
    NotFoundError,
)
from curation.ledger.documents import PlanDocument
from curation.ledger.documents.base import Count, Document, Number, Sha256, Text, find, parse, read, read_json, repair
from curation.selection.checkpoint import latest_facts
from curation.storage.store import Store, open_store


class Part(Document):
    """A document within another."""

    size: Count
    share: Number = 0.5


class Thing(Document):
    """A document with a field of each kind."""

    name: Text
    sha256: Sha256
    parts: list[Part] = Field(default_factory=list)
    note: str | None = None

    @model_validator(mode="after")
    def _is_not_bad(self) -> Thing:
        if self.name == "bad":
            raise ValueError("bad things are refused")
        return self


WHOLE: dict[str, Any] = {"name": "a", "sha256": "0" * 64, "parts": [{"size": 1, "later": [{"x": None}]}]}


def thing(**changes: Any) -> bytes:
    return json.dumps({**WHOLE, **changes}).encode()


def test_by_key_it_is_the_json_as_committed_and_by_attribute_it_is_typed() -> None:
    found = parse(thing(later={"y": 1}), Thing, "here", "")
    assert found.parts[0].size == 1 and found.parts[0].share == 0.5 and found.note is None
    assert found["parts"] == WHOLE["parts"] and found["later"] == {"y": 1}, "without defaults"
    assert found.to_json() == {**WHOLE, "later": {"y": 1}}
    assert set(found.keys()) == {"name", "sha256", "parts", "note", "later"}
    assert "note" in found and "later" in found and "share" not in found
    assert found.get("later") == {"y": 1} and found.get("nothing", 3) == 3 and found.get("note", 3) is None
    with pytest.raises(KeyError, match="nothing"):
        found["nothing"]


def test_it_cannot_be_changed() -> None:
    found = parse(thing(), Thing, "here", "")
    with pytest.raises(ValidationError):
        found.name = "b"  # type: ignore[misc]
    found["parts"].append("x")
    assert found["parts"] == WHOLE["parts"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"{", "it is not JSON"),
        (b'{"name": "\xff"}', "it is not JSON"),
        (b"[1]", "it is not a JSON object"),
        (thing(name=""), "field `name` is missing or invalid"),
        (thing(name=3), "field `name` is missing or invalid"),
        (thing(sha256="0" * 63), "field `sha256` is missing or invalid"),
        (thing(parts=[{"size": 1}, {"size": -1}]), "field `parts[1].size` is missing or invalid"),
        (thing(parts=[{"size": True}]), "field `parts[0].size` is missing or invalid"),
        (thing(parts=[{"size": 1 << 63}]), "field `parts[0].size` is missing or invalid"),
        (thing(name=None, sha256=None), "fields `name` and `sha256` are missing or invalid"),
        (thing(parts=[{}] * 7), "fields `parts[0].size`, `parts[1].size`, `parts[2].size`, `parts[3].size`, "
                                "`parts[4].size` and 2 more are missing or invalid"),
        (thing(name="bad"), "bad things are refused"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(data: bytes, said: str) -> None:
    with pytest.raises(LedgerError) as error:
        parse(data, Thing, "s3://b/x.json", "repair it")
    assert str(error.value) == f"s3://b/x.json is damaged: {said}" and error.value.fix == "repair it"


def test_numbers_are_finite() -> None:
    for text in (b"NaN", b"Infinity", b"1e999"):
        with pytest.raises(LedgerError, match="share"):
            parse(thing(parts=[{"size": 1, "share": 7.25}]).replace(b"7.25", text), Thing, "here", "")
    assert parse(thing(parts=[{"size": 1, "share": 1}]), Thing, "here", "").parts[0].share == 1.0


def test_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path))
    assert find(store, "x.json", Thing, "") is None
    for reader in (read, read_json):
        with pytest.raises(NotFoundError):
            reader(store, "x.json", Thing, "")
    store.put("x.json", thing(z=1, a=2))
    assert list(read_json(store, "x.json", Thing, "")) == [*WHOLE, "z", "a"], "in the order that was put"
    get, answers = Store.get, [b'{"name"', thing()]
    monkeypatch.setattr(Store, "get", lambda self, key: answers.pop(0) if answers else get(self, key))
    assert read(store, "x.json", Thing, "").to_json() == WHOLE, "a damaged answer is asked for again"


def test_the_repair_of_a_dataset() -> None:
    assert repair("file:///d/out@2") == "`curate repair /d/out@2 --apply` rebuilds it from the inputs"
    assert "s3://b/out --apply`" in repair("s3://b/out")


@pytest.mark.parametrize("digits", [400, 5000])
def test_numbers_without_end_in_a_document(tmp_path: Path, digits: int) -> None:
    store = open_store(str(tmp_path))
    store.put("d", b'{"pages": [], "units": 0, "bytes": 0, "more": %s, "corpus": {}}' % (b"9" * digits))
    for reader in (read, read_json):
        with suppress(LedgerError):
            reader(store, "d", PlanDocument, "")
    store.put("checkpoints/000000001.safetensors", (16).to_bytes(8, "little") + b'{"a":' + b"9" * 10_000 + b"}")
    assert latest_facts(store) is None
    store.put("checkpoints/index.json", b"9" * 5000)
    assert latest_facts(store) is None
