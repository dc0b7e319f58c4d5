"""The house: no circles, few floors, a picture that matches the code, and folders that say what others may import."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # flow imports draw
    spec.loader.exec_module(module)
    return module


draw = _script("draw")
flow = _script("flow")
FILES = draw.modules(ROOT)
PACKAGES = sorted(name for name, path in FILES.items() if path.name == "__init__.py")


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert draw.circles(draw.graph(FILES)) == []


def test_circles_are_found() -> None:
    assert draw.circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) != []
    assert draw.circles({"a": {"b"}, "b": set()}) == []


def test_imports_in_functions_and_for_types_count(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("if TYPE_CHECKING:\n    from a import b\ndef f():\n    import c.d\n")
    assert list(draw.imported(tmp_path / "x.py")) == [("a", "b"), ("c.d", "")]


def test_the_house_has_few_floors_and_edges() -> None:
    house = draw.measure(ROOT)
    assert house["floors"] <= draw.MOST_FLOORS
    assert house["edges"] <= draw.MOST_EDGES


def test_the_flow_names_the_code_as_it_is() -> None:
    assert flow.check(ROOT) == [], "change STEPS of docs/flow.py"
    assert [path.name for path, text in flow.outputs().items() if path.read_text() != text] == [], "make docs"


def test_steps_that_differ_from_the_code_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    code = ("curation.ledger.ledger", "Ledger.scheme")
    strange = flow.Step("plot", ("plot", "rooms"), ("corpus",), (), code)
    monkeypatch.setattr(flow, "STEPS", (*(step for step in flow.STEPS if step.name != "learn"), strange))
    assert flow.check(ROOT) == [
        "plot: curation.ledger.ledger:Ledger.scheme does not exist",
        "curate learn: in no step and not in OTHER_COMMANDS",
        "curate plot: not registered in jobs/cli.py",
        "plot: curate rooms does not import curation.ledger.ledger",
    ]


def test_the_picture_of_the_house_shows_the_code_as_it_is() -> None:
    """`make docs` draws it again."""
    house = draw.measure(ROOT)
    page = (ROOT / "docs/architecture.md").read_text()
    assert draw.replace_block(page, "house", draw.counts(house)) == page
    rooms = json.loads((ROOT / "docs/house.json").read_text())["rooms"]
    assert [(room["room"], room["floor"], room["imports"]) for room in rooms] == [
        (room["room"], room["floor"], room["imports"]) for room in house["rooms"]
    ]


def _exported(package: str) -> list[str]:
    """`__all__` of a package, as written."""
    for node in ast.parse(FILES[package].read_text()).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            return list(ast.literal_eval(node.value))
    return []


_imported: Callable[[Path], list[Any]] = cache(lambda path: list(draw.imported(path)))  # parses the file


def _imported_from_outside(package: str) -> set[str]:
    """Names and modules of a package that files outside of it import."""
    found = set()
    for name, path in FILES.items():
        if name != package and not name.startswith(f"{package}."):
            for module, what in _imported(path):
                if module == package:
                    found.add(what)
                elif module.startswith(f"{package}."):
                    found.add(module.removeprefix(f"{package}.").partition(".")[0])
    return found


@pytest.mark.parametrize("package", [name for name in PACKAGES if name not in ("curation", "jobs")])
def test_a_folder_says_what_may_be_imported_from_it(package: str) -> None:
    exported = _exported(package)
    inside = {name.rpartition(".")[2] for name in FILES if name.rpartition(".")[0] == package}
    imported = _imported_from_outside(package)
    assert imported <= set(exported), "imported, though not in __all__"
    assert set(exported) & inside <= imported, "in __all__, though no other folder imports it"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_says_what_lives_there(package: str) -> None:
    assert len((ast.get_docstring(ast.parse(FILES[package].read_text())) or "").splitlines()) >= 3
