"""The house: no circles, few floors, a picture that matches the code, and folders that say what others may import."""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _drawer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw", ROOT / "docs/draw.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


draw = _drawer()
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


def test_the_pictures_show_the_code_as_it_is() -> None:
    """`make docs` draws them again."""
    rooms = json.loads((ROOT / "docs/house.json").read_text())["rooms"]
    assert [(room["room"], room["floor"], room["imports"]) for room in rooms] == [
        (room["room"], room["floor"], room["imports"]) for room in draw.measure(ROOT)["rooms"]
    ]


def _exported(package: str) -> list[str]:
    """`__all__` of a package, as written."""
    for node in ast.parse(FILES[package].read_text()).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            return list(ast.literal_eval(node.value))
    return []


def _imported_from_outside(package: str) -> set[str]:
    """Names and modules of a package that files outside of it import."""
    found = set()
    for name, path in FILES.items():
        if name != package and not name.startswith(f"{package}."):
            for module, what in draw.imported(path):
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
