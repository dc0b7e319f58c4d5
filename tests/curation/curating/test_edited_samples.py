"""Edits of a written sample's json: where the caption is, what the sample was before, who made the edit."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from curation.core.types import ShardRef
from curation.curating.annotation import annotate
from curation.curating.edited_samples import SCHEMA, FieldEdit, SampleEdits, edits_by_row
from curation.shards.contents import MAX_JSON_DEPTH, metadata

SHARD = ShardRef("a.tar", 1, "e")
CAPTION = FieldEdit("caption", '"a cat"', "captions")


def applied(value: Any, *edits: FieldEdit, place: str = "", text: bytes | None = None) -> dict[str, Any]:
    """The json of a written sample, as a reader accepts it."""
    annotated = annotate(json.dumps(value).encode(), "u", SHARD, 0, 512)
    return metadata(SampleEdits(edits).apply(annotated, place, text))


def test_a_caption_is_replaced_where_it_is() -> None:
    assert applied({"caption": "old", "text": "other"}, CAPTION)["caption"] == "a cat"
    found = applied({"text": "old"}, CAPTION)
    assert found["text"] == "a cat" and "caption" not in found
    assert found["tutelage"]["parent"]["replaced"] == {"text": "old"}
    found = applied({"alt": "old", "caption": "other"}, CAPTION, place="json.alt")
    assert (found["alt"], found["caption"]) == ("a cat", "other")
    found = applied({"text": "other"}, CAPTION, text="ölt".encode())
    assert (found["caption"], found["text"]) == ("a cat", "other")
    assert found["tutelage"]["parent"]["replaced"] == {"caption": "ölt"}


def test_different_makers_are_all_named() -> None:
    entry = applied({}, CAPTION, FieldEdit("label", "1", "review", "q"))["tutelage"]
    assert entry["by"] == {"operation": "captions", "fields": {"label": {"operation": "review", "run": "q"}}}
    assert applied({}, FieldEdit("label", "1"))["tutelage"]["by"] == {"operation": "edit"}


def test_the_parent_of_an_earlier_curation_stays() -> None:
    once = applied({"label": 1}, FieldEdit("label", "2", "review"))
    twice = applied(once, FieldEdit("label", "3", "review"))["tutelage"]
    assert twice["parent"]["replaced"] == {"label": 2}
    assert twice["parent"]["parent"] == once["tutelage"]


def test_a_synthetic_sample_stays_synthetic() -> None:
    value = {"tutelage": {"origin": "synthetic"}}
    assert applied(value, FieldEdit("label", "2"))["tutelage"]["origin"] == "synthetic"


def test_a_deep_or_long_json_can_still_be_read() -> None:
    deep: Any = 1
    for _ in range(MAX_JSON_DEPTH - 2):
        deep = [deep]
    entry = applied({"label": deep, "long": "x" * 100_000}, FieldEdit("label", "2"), FieldEdit("long", "1"))["tutelage"]
    assert "replaced" not in entry["parent"]
    value: dict[str, Any] = {}
    for n in range(60):
        value = applied(value, FieldEdit("label", str(n)))
    assert value["label"] == 59


def stale(value: Any, edit: FieldEdit, place: str = "", text: bytes | None = None) -> list[tuple[str, str | None]]:
    """What is expected and present where the edit is stale; [] where it applies."""
    annotated = annotate(json.dumps(value).encode(), "u", SHARD, 0, 512)
    fresh, found = SampleEdits((edit,)).divided(annotated, place, text)
    assert len(fresh.edits) + len(found) == 1
    return [(one.expected, one.present) for one in found]


def test_an_edit_made_for_another_value_is_stale() -> None:
    def label(expected: str | None) -> FieldEdit:
        return FieldEdit("label", '"owl"', expected=expected)

    assert stale({"label": "cat"}, label('"cat"')) == stale({"label": "dog"}, label(None)) == []
    assert stale({"label": "dog"}, label('"cat"')) == [('"cat"', '"dog"')]
    assert stale({}, label('"cat"')) == [('"cat"', None)] and stale({"label": None}, label("null")) == []
    assert stale({"label": {"b": 1, "a": [2]}}, label('{"a":[2],"b":1}')) == []
    assert stale({"label": 7}, label('"7"')) == [('"7"', "7")] and stale({"label": True}, label("1")) == [("1", "true")]


def test_a_caption_is_compared_where_it_is() -> None:
    edit = FieldEdit("caption", '"a cat"', expected='"old"')
    assert stale({"caption": "old"}, edit) == stale({"text": " old"}, edit) == stale({}, edit, text=b"old\n") == []
    assert stale({"alt": "old", "caption": "x"}, edit, place="json.alt") == []
    assert stale({"caption": "old"}, edit, text="ölt".encode()) == [('"old"', '"ölt"')]


def test_the_other_edits_of_a_sample_apply() -> None:
    annotated = annotate(b'{"label": "dog", "name": 1}', "u", SHARD, 0, 512)
    edits = SampleEdits((FieldEdit("label", '"owl"', expected='"cat"'), FieldEdit("name", "2", expected="1")))
    fresh, found = edits.divided(annotated, "", None)
    assert [edit.field for edit in fresh.edits] == ["name"] and [one.field for one in found] == ["label"]
    value = metadata(fresh.apply(annotated))
    assert (value["label"], value["name"]) == ("dog", 2) and value["tutelage"]["parent"]["replaced"] == {"name": 1}


@given(
    st.dictionaries(st.sampled_from(["label", "name", "caption"]), st.text(max_size=400), max_size=3),
    st.dictionaries(st.sampled_from(["label", "name", "caption"]), st.text(min_size=1, max_size=400), min_size=1),
    st.sampled_from([None, "review", f"captions@{'a' * 64}"]),
    st.booleans(),
)
def test_an_edited_json_grows_by_a_bounded_number_of_bytes(
    value: dict[str, str], new: dict[str, str], by: str | None, curated: bool
) -> None:
    """The bound that docs/edits.md states, by which a sample can exceed what the filter `budget` counts."""
    found: dict[str, Any] = {**value, "tutelage": {"uid": "f" * 32}} if curated else dict(value)
    annotated = annotate(json.dumps(found).encode(), "f" * 32, ShardRef("a" * 200, 1, "e" * 40), 1 << 40, 1 << 30)
    edits = tuple(FieldEdit(name, json.dumps(text), by, "q" * 64) for name, text in sorted(new.items()))
    written = SampleEdits(edits).apply(annotated)
    texts = [edit.value for edit in edits] + [json.dumps(value.get(edit.field)) for edit in edits]
    texts += [text or "" for edit in edits for text in (edit.by, edit.at_run)]
    assert len(written) <= len(annotated) + sum(len(text.encode()) for text in texts) + 1024  # padding: 512 a member


def test_edits_are_grouped_by_row() -> None:
    rows = [
        (3, "label", "1", None, None, "0"),
        (3, "caption", '"x"', "a", "b", None),
        (7, "label", "2", None, None, None),
    ]
    table = pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)
    found = edits_by_row(table)
    assert [[edit.field for edit in item.edits] for item in found.values()] == [["caption", "label"], ["label"]]
    assert [edit.expected for edit in found[3].edits] == [None, "0"]
    assert (found[3].caption, found[7].caption) == ("x", None) and edits_by_row(None) == {}
