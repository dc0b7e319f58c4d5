"""Edits that replace a value, applied to the samples that are written: their json, and their caption's file.

The image's bytes stay as they are. The key `tutelage` of an edited sample's json says so: `origin` (`core.origins`),
`by` (the operation, the run, and the sha256 of the model where one made the edit) and `parent`, which the sample was
before: uid, source, the replaced values, and the parent of an earlier curation. Cost: 30 us an edited sample.

An edit with a `from` that the sample's value does not equal is stale: it was made for another value. It is reported
and not applied, so that a correction never overwrites what it was not made for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa

from curation.core.origins import CAPTIONED, PROVENANCE, RELABELLED, strongest
from curation.ledger.edit_lists import CAPTION, MAX_VALUE, json_value, shortest_json
from curation.shards.contents import CAPTION_FIELDS, MAX_JSON_DEPTH, depth

#: The edits of one unit, sorted by row and field.
SCHEMA = pa.schema([("row", pa.int32()), *((name, pa.string()) for name in ("field", "value", "by", "at_run", "from"))])
_MODEL = re.compile(r"(.+)@([0-9a-f]{64})")  # of `by`: an operation, and the sha256 of the model that it used


@dataclass(frozen=True)
class FieldEdit:
    """The new value of one field (`caption` or a json field), as JSON text, who gave it, and the value before."""

    field: str
    value: str
    by: str | None = None
    at_run: str | None = None
    expected: str | None = None  # the value that it replaces, as JSON text; None: any

    @property
    def maker(self) -> dict[str, str]:
        """What made the edit, as the json has it: operation, model, run; only what is known."""
        found = _MODEL.fullmatch(self.by or "")
        operation, model = found.groups() if found else (self.by, None)
        parts = {"operation": operation or "edit", "model": model, "run": self.at_run}
        return {name: value for name, value in parts.items() if value}


class StaleEdit(NamedTuple):
    """An edit that is not applied: the value that it expects and the sample's own, as JSON text (None: missing)."""

    field: str
    expected: str
    present: str | None


@dataclass(frozen=True)
class SampleEdits:
    """The edits of one sample, sorted by field."""

    edits: tuple[FieldEdit, ...]

    def divided(self, annotated: bytes, place: str, text: bytes | None) -> tuple[SampleEdits, list[StaleEdit]]:
        """Return the edits that apply to a sample, and those that are stale. Arguments: see `apply`."""
        if all(edit.expected is None for edit in self.edits):
            return self, []
        value = json.loads(annotated)
        found = {edit.field: _stale(edit, value, place, text) for edit in self.edits}
        fresh = tuple(edit for edit in self.edits if found[edit.field] is None)
        return SampleEdits(fresh), [one for one in found.values() if one is not None]

    @cached_property
    def caption(self) -> str | None:
        """The new caption, None where it stays."""
        return next((json_value(edit.value) for edit in self.edits if edit.field == CAPTION), None)

    def origin(self, before: str | None) -> str:
        """Return the sample's origin after the edits. before: its origin in the corpus, None for real."""
        return strongest([before, RELABELLED if self.caption is None else CAPTIONED])

    def apply(self, annotated: bytes, place: str = "", text: bytes | None = None) -> bytes:
        """Return the json of the written sample.

        annotated: the json with uid and source (`annotation.annotate`). place: the place of captions. text: the
        original caption's file, if the edits replace it.
        """
        value = json.loads(annotated)
        entry = value.pop(PROVENANCE)
        replaced: dict[str, Any] = {}
        for edit in self.edits:
            key = _caption_key(value, place, text) if edit.field == CAPTION else edit.field
            if edit.field == CAPTION and text is not None:
                replaced[key] = text.decode()
            elif key in value:
                replaced[key] = value[key]
            value[key] = json_value(edit.value)
        return json.dumps({**value, PROVENANCE: self._entry(entry, replaced)}, ensure_ascii=False).encode()

    def _entry(self, entry: Mapping[str, Any], replaced: Mapping[str, Any]) -> dict[str, Any]:
        """The value of `tutelage`: that of a sample without edits, and what they changed."""
        origin = self.origin(entry.get("origin"))
        decisive = next((edit for edit in self.edits if edit.field == CAPTION), self.edits[0])
        others = {edit.field: edit.maker for edit in self.edits if edit.maker != decisive.maker}
        parent = {name: part for name, part in entry.items() if name != "parent"}
        if kept := {name: old for name, old in replaced.items() if _is_small(old)}:
            parent["replaced"] = kept
        if "parent" in entry and depth(entry["parent"]) + 3 <= MAX_JSON_DEPTH:
            parent["parent"] = entry["parent"]
        fields = {"fields": others} if others else {}
        return {
            "uid": entry["uid"],
            "source": entry["source"],
            "origin": origin,
            "by": {**decisive.maker, **fields},
            "parent": parent,
        }


def edits_by_row(edits: pa.Table | None) -> Mapping[int, SampleEdits]:
    """Return the edits of a unit (`SCHEMA`) by row. Memory: 1 KB an edited sample."""
    if edits is None:
        return MappingProxyType({})
    found: dict[int, list[FieldEdit]] = {}
    for row, *parts in zip(*(edits.column(name).to_pylist() for name in SCHEMA.names), strict=True):
        found.setdefault(row, []).append(FieldEdit(*parts))
    return {row: SampleEdits(tuple(sorted(items, key=lambda edit: edit.field))) for row, items in found.items()}


def _stale(edit: FieldEdit, value: Mapping[str, Any], place: str, text: bytes | None) -> StaleEdit | None:
    """Return why an edit does not apply to a sample; None if it does. White space around captions does not count."""
    if edit.expected is None:
        return None
    is_caption, expected = edit.field == CAPTION, json_value(edit.expected)
    key = _caption_key(value, place, text) if is_caption else edit.field
    present = text.decode() if is_caption and text is not None else value.get(key)
    if is_caption and isinstance(present, str) and isinstance(expected, str) and present.strip() == expected.strip():
        return None
    shown = _json_text(present) if present is not None else None
    if shown == (edit.expected if expected is not None else None):
        return None
    return StaleEdit(edit.field, edit.expected, shown)


def _json_text(value: Any) -> str:
    """Return a value as edit lists write it, if they can, so that equal values have equal texts."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        return shortest_json(text)
    except ValueError:
        return text


def _caption_key(value: Mapping[str, Any], place: str, text: bytes | None) -> str:
    """The field of the json that holds the new caption: the one that holds the caption now, else `caption`."""
    if place.startswith("json."):
        return place.removeprefix("json.")
    if text is not None or place == "txt":
        return CAPTION_FIELDS[0]
    return next((name for name in CAPTION_FIELDS if value.get(name) is not None), CAPTION_FIELDS[0])


def _is_small(value: Any) -> bool:
    """Whether a replaced value is recorded: one that would double a long json is not."""
    return depth(value) + 4 <= MAX_JSON_DEPTH and len(json.dumps(value)) <= MAX_VALUE
