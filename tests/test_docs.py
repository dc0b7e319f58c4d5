"""The pages that are generated from the code are current; `make docs` writes them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def fields(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import fields

    yield fields
    sys.modules.pop("fields")


def test_the_fields_of_recipes_are_current(fields: ModuleType) -> None:
    assert [path.name for path, text in fields.outputs().items() if path.read_text() != text] == [], "make docs"


def test_a_row_for_each_key_of_a_schema(fields: ModuleType) -> None:
    section = {"properties": {"b": {"type": "integer", "default": 3, "description": "how many"}}, "description": "S."}
    schema = {
        "properties": {
            "a": {"anyOf": [{"type": "string"}, {"items": {"type": "string"}, "type": "array"}, {"type": "null"}]},
            "s": {"anyOf": [{"$ref": "#/$defs/Part"}, {"const": "none"}]},
            "e": {"enum": ["x", "y"], "default": "x", "description": "one | other"},
        },
        "required": ["a"],
    }
    assert list(fields.rows(schema, {"Part": section})) == [
        "| `a` | text or list of text | required |  |",
        "| `s` | section or `none` |  | S. |",
        "| `s.b` | whole number | `3` | how many |",
        "| `e` | `x` or `y` | `x` | one \\| other |",
    ]
