"""The pages that are generated from the code are current (`make docs` writes them), and no text has riddling words."""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


#: Words and phrases that docs/style.md replaces by plainer ones.
RIDDLES = re.compile(
    r"\b(told|tells? of|anew|whoever|somebody|thereof|beheld|is said (?:to|by|of)|said of|what lies|wants? no"
    r"|speaks? of|of all that|by what|mends?|mending)\b",
    re.IGNORECASE,
)
EXEMPT = {"docs/style.md", "tests/test_docs.py"}  # they quote the words


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and text: of a Python file its comments and strings, of another file all lines."""
    if path.suffix != ".py":
        yield from enumerate(path.read_text().splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield from enumerate(token.string.splitlines(), token.start[0])


def written_files() -> Iterator[Path]:
    """Yield code, tests and pages. Results are left out: they quote what was measured, in the words of that time."""
    for folder in ("curation", "actors", "jobs", "docs", "tests", "."):
        for kind in ("*.py", "*.md", "*.jinja"):
            root = ROOT / folder
            for path in sorted(root.glob(kind) if folder == "." else root.rglob(kind)):
                if path.relative_to(ROOT).parts[:2] != ("docs", "results"):
                    yield path


def test_no_text_has_the_words_that_the_style_replaces() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {word[0]}"
        for path in written_files()
        if str(path.relative_to(ROOT)) not in EXEMPT
        for line, text in texts(path)
        for word in RIDDLES.finditer(text)
    ]
    assert found == [], "docs/style.md"


def test_words_are_searched_in_comments_and_strings_alone(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text('told = 1  # anew\nwhoever = """one\ntwo"""\n')
    assert list(texts(tmp_path / "x.py")) == [(1, "# anew"), (2, '"""one'), (3, 'two"""')]


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
