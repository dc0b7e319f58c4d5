"""Typed readers: documents of the wrong shape are one line that names the object and the fields; old ones are read."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from builders import score_record, snapshot_document, write_record

from curation.core.errors import LedgerError, NotFoundError
from curation.ledger import documents
from curation.ledger.documents import (
    Document,
    PlanDocument,
    ScoreRecord,
    SnapshotDocument,
    WriteRecord,
    parse,
    parse_unit_record,
)
from curation.ledger.documents.learning import Card, Evaluation, Figures, LearningSummary, PartDraw, PartSizes
from curation.storage.store import open_store

PLAN = {
    "corpus": {"root": "file:///c", "patterns": [""]}, "fingerprints": {"index": "f"}, "units": 2, "bytes": 3,
    "pages": [{"key": f"plans/pages/{'0' * 64}.parquet", "sha256": "0" * 64, "units": 2}],
}  # fmt: skip
SNAPSHOT = snapshot_document(snapshot=1, parent=None)
VALID: list[tuple[type[Document], dict[str, Any]]] = [
    (ScoreRecord, score_record()),
    (WriteRecord, write_record()),
    (PlanDocument, PLAN),
    (SnapshotDocument, SNAPSHOT),
    (PartSizes, {"kept": 1, "pool": 2}),
    (PartDraw, {"bound": None}),
    (Figures, {"run": "r", "seed": 0, "seconds": 1, "samples_seen": 10, "flops": 1.5, "recall@1": 0.5}),
]
SHAPES = [b"", b"[]", b"{}", b'{"a": 1}', b"null", b"3", b'"x"', b'{"kind": "wri', b"\xff\xfe", b"[" * 100_000]


@pytest.mark.parametrize(("kind", "value"), VALID, ids=[kind.__name__ for kind, _ in VALID])
def test_what_is_whole_is_read_as_it_lies_there(kind: type[Document], value: dict[str, Any]) -> None:
    later = {**value, "of_a_later_version": {"x": [1]}}
    found = parse(json.dumps(later).encode(), kind, "here", "")
    assert found.to_json() == later
    assert all(found[name] == later[name] and found.get(name) == later[name] for name in later)
    assert "nothing" not in found and found.get("nothing") is None
    with pytest.raises(KeyError, match="nothing"):
        found["nothing"]


@pytest.mark.parametrize(("kind", "value"), VALID, ids=[kind.__name__ for kind, _ in VALID])
def test_a_key_that_stands_twice_is_damage(kind: type[Document], value: dict[str, Any]) -> None:
    """One reader would take the first of two values and another the last; equal values are rejected, too."""
    text, name = json.dumps(value), next(iter(value))
    twice = f"{text[:-1]}, {json.dumps(name)}: {json.dumps(value[name])}}}".encode()
    within = f'{text[:-1]}, "x": [{{"y": 1, "y": 2}}]}}'.encode()
    for data, key in ((twice, name), (within, "y")):
        with pytest.raises(LedgerError, match=f"here is damaged: the key `{key}` is repeated in one object"):
            parse(data, kind, "here", "")


@pytest.mark.parametrize("data", SHAPES, ids=lambda data: repr(data[:12]))
@pytest.mark.parametrize("kind", [*(kind for kind, _ in VALID), Card, Evaluation, LearningSummary])
def test_another_shape_is_one_line_with_the_place_and_the_fix(kind: type[Document], data: bytes) -> None:
    with pytest.raises(LedgerError, match=r"s3://b/x\.json is damaged: (it is|fields? `)") as raised:
        parse(data, kind, "s3://b/x.json", documents.RESTORE)
    assert raised.value.fix == documents.RESTORE and "\n" not in str(raised.value) and len(str(raised.value)) < 200


@pytest.mark.parametrize(("kind", "value"), VALID, ids=[kind.__name__ for kind, _ in VALID])
def test_every_field_is_checked(kind: type[Document], value: dict[str, Any]) -> None:
    """Another type under any key that is known, at any depth, is found, and the error names that key."""
    for path in _paths(value, kind):
        for wrong in ({"x": {"y": 1}}, [[]], True):
            if kind is PartDraw or path[-1] == "recall@1":
                continue
            changed = deepcopy(value)
            inner: Any = changed
            for step in path[:-1]:
                inner = inner[step]
            if isinstance(inner[path[-1]], type(wrong)):
                continue
            inner[path[-1]] = wrong
            with pytest.raises(LedgerError, match=rf"`[^`]*{path[-1]}"):
                parse(json.dumps(changed).encode(), kind, "here", "")


def _paths(value: dict[str, Any], kind: type[Document]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for name in value:
        if name not in kind.model_fields:
            continue
        found.append((name,))
        if name in ("data", "manifest", "shards") and isinstance(value[name], dict):
            found += [(name, inner) for inner in value[name]]
        if isinstance(value[name], list) and value[name] and isinstance(value[name][0], dict):
            found += [(name, 0, inner) for inner in value[name][0]]
    return found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seen": "3"}, "field `seen` is missing or invalid"),
        ({"seen": -1}, "field `seen` is missing or invalid"),
        ({"seen": 1 << 70}, "field `seen` is missing or invalid"),
        ({"seen": 1.0}, "field `seen` is missing or invalid"),
        ({"seen": None, "etag": 3}, "fields `etag` and `seen` are missing or invalid"),
        ({"kind": "write"}, "field `kind` is missing or invalid"),
        ({"quarantined": {"x": -1}}, "field `quarantined.x` is missing or invalid"),
        ({"quarantined": {"x": 1, "y": 1}}, "counts do not add up: quarantined 2 > seen 1"),
    ],
)
def test_fields_are_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(LedgerError, match=f"here is damaged: {said}$"):
        parse(json.dumps(score_record(**change)).encode(), ScoreRecord, "here", "")


@pytest.mark.parametrize(
    "key", ["units/a.json", "data/../units/a.json", "data/a/b.tar", "data/", "/etc/passwd", "data/a"]
)
def test_a_key_of_data_lies_below_data(key: str) -> None:
    record = score_record()
    record["data"]["key"] = key
    with pytest.raises(LedgerError, match=r"field `data\.key` is missing or invalid"):
        parse(json.dumps(record).encode(), ScoreRecord, "here", "")


@pytest.mark.parametrize("name", ["seen", "kept", "shards", "manifest", "inputs"])
def test_counts_of_a_write_unit_add_up(name: str) -> None:
    record = write_record()
    match name:
        case "shards":
            record["shards"][0]["samples"] += 1
        case "manifest":
            record["manifest"]["rows"] += 1
        case "inputs":
            record["inputs"] *= 2
        case _:
            record[name] += 1
    with pytest.raises(LedgerError, match="counts do not add up: "):
        parse(json.dumps(record).encode(), WriteRecord, "here", "")
    with pytest.raises(LedgerError, match="counts do not add up: "):
        parse_unit_record(json.dumps(record).encode(), "here", "")


def test_a_unit_record_is_of_one_of_two_kinds() -> None:
    assert isinstance(parse_unit_record(json.dumps(score_record()).encode(), "", ""), ScoreRecord)
    assert isinstance(parse_unit_record(json.dumps(write_record()).encode(), "", ""), WriteRecord)
    for value in ({}, {"kind": "other"}, {"kind": None}, {"kind": ["score"]}):
        with pytest.raises(LedgerError, match="field `kind` is missing or invalid"):
            parse_unit_record(json.dumps(value).encode(), "", "")
    with pytest.raises(LedgerError, match=r"fields `seen`, `kept`.* are missing or invalid"):
        parse_unit_record(b'{"kind": "write"}', "", "")


def test_fields_that_older_versions_did_not_write_have_defaults() -> None:
    found = parse(json.dumps(SNAPSHOT).encode(), SnapshotDocument, "", "")
    assert (found.score_types, found.lists, found.against, found.matches, found.weights) == ({}, {}, {}, None, {})
    assert found["against"] == {} and found.get("matches", 1) is None


def test_the_data_that_a_document_names() -> None:
    assert list(parse(json.dumps(score_record()).encode(), ScoreRecord, "", "").names()) == ["data/u-0.parquet"]
    found = parse(json.dumps(write_record()).encode(), WriteRecord, "", "")
    assert list(found.names()) == ["data/u-0.tar", "data/u-1.parquet"]
    item = {"key": "data/more-0.txt", "sha256": "0" * 64, "bytes": 3}
    document = {**SNAPSHOT, "lists": {"keep": item}, "matches": {**item, "key": "data/matches-0.parquet"}}
    names = list(parse(json.dumps(document).encode(), SnapshotDocument, "", "").names())
    assert names == [f"data/{name}-0.{suffix}" for name, suffix in (
        ("shards", "parquet"), ("manifest", "parquet"), ("urls", "parquet"), ("more", "txt"), ("matches", "parquet"),
    )]  # fmt: skip


def test_data_in_fields_of_a_later_version_are_named_too() -> None:
    """Else an earlier version's gc would delete them."""
    later = {"of_a_later_version": [{"x": {"key": "data/later-0.bin", "sha256": "0" * 64}}]}
    for record in (score_record(**later), write_record(**later)):
        assert "data/later-0.bin" in list(parse_unit_record(json.dumps(record).encode(), "", "").names())
    found = parse(json.dumps({**SNAPSHOT, **later}).encode(), SnapshotDocument, "", "")
    assert "data/later-0.bin" in list(found.names())


def test_from_a_store(tmp_path: Any) -> None:
    store = open_store(str(tmp_path))
    assert documents.find(store, "x.json", ScoreRecord, "") is None
    with pytest.raises(NotFoundError):
        documents.read(store, "x.json", ScoreRecord, "")
    text = json.dumps(score_record(z=1, a=2), indent=3).encode()
    store.put("x.json", text)
    assert list(documents.read_json(store, "x.json", ScoreRecord, "")) == list(json.loads(text))
    store.put("x.json", b"[]")
    with pytest.raises(LedgerError, match=str(tmp_path)):
        documents.find(store, "x.json", ScoreRecord, documents.repair("file:///out"))


def test_the_advice_names_the_dataset_where_it_is_known() -> None:
    assert documents.repair("s3://b/out") == "`curate repair s3://b/out --apply` rebuilds it from the inputs"
    assert documents.repair("file:///out") == "`curate repair /out --apply` rebuilds it from the inputs"
