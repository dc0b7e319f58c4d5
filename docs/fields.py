"""Write the tables of docs/recipes.md from the models of both recipes: `make docs`.

The tables come from the models' JSON schemas: a key's kind, its default and its description. Takes some seconds, since
it imports the models.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from draw import DOCS, ROOT, replace_block

PAGE = DOCS / "recipes.md"
KINDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "object": "entry"}

Schema = Mapping[str, Any]


def rows(schema: Schema, definitions: Schema, prefix: str = "") -> Iterator[str]:
    """A row of Markdown for each key; the keys of a section follow it as `section.key`."""
    for name, field in schema["properties"].items():
        sections = [definitions[found["$ref"].rpartition("/")[2]] for found in _options(field) if "$ref" in found]
        about = field.get("description") or " ".join(one.get("description", "") for one in sections)
        default = _default(field, required=name in schema.get("required", ()))
        about = " ".join(about.split()).replace("|", "\\|")
        yield f"| `{prefix}{name}` | {_kind(field)} | {default} | {about} |"
        for section in sections:
            yield from rows(section, definitions, f"{prefix}{name}.")


def _options(field: Schema) -> list[Schema]:
    """The schemas that a value may have, without null."""
    found = field.get("anyOf") or field.get("allOf") or [field]
    return [option for option in found if option.get("type") != "null"]


def _kind(field: Schema) -> str:
    return " or ".join(dict.fromkeys(map(_one_kind, _options(field))))


def _one_kind(option: Schema) -> str:
    if "$ref" in option:
        return "section"
    if "const" in option:
        return f"`{option['const']}`"
    if "enum" in option:
        return " or ".join(f"`{value}`" for value in option["enum"])
    if option.get("type") == "array":
        return f"list of {_kind(option['items'])}"
    return KINDS.get(option.get("type", ""), "any")


def _default(field: Schema, *, required: bool) -> str:
    if required:
        return "required"
    value = field.get("default")
    if value in (None, "", [], {}):
        return ""
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def table(model: Any) -> list[str]:
    """The keys of a recipe's model as a table of Markdown."""
    schema = model.model_json_schema()
    return ["| key | kind | default | meaning |", "|---|---|---|---|", *rows(schema, schema.get("$defs", {}))]


def outputs() -> dict[Path, str]:
    """The page with both tables as the models are now."""
    from curation.recipes.curation_recipe import Recipe
    from curation.recipes.learning_recipe import LearnRecipe

    text = replace_block(PAGE.read_text(encoding="utf-8"), "curation", table(Recipe))
    return {PAGE: replace_block(text, "learning", table(LearnRecipe))}


def main() -> None:
    """Write the page."""
    for path, text in outputs().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
