"""Where a module's tests are: `tests/<its folder>/test_<its name>.py`, but for the modules listed here.

`python tests/mirror.py` lists the modules that have neither a file nor an entry.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: Module -> the test file that covers it: a protocol, a table or a part that only its neighbour uses.
TESTED_BY = {}


def modules() -> list[str]:
    """Modules of the three packages, as paths from the root; a folder's `__init__.py` is tested with its table."""
    found = (path for name in ("curation", "actors", "jobs") for path in (ROOT / name).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found if path.name != "__init__.py")


def own_file(module: str) -> Path:
    """The test file that a module has by its name."""
    path = Path(module)
    return ROOT / "tests" / path.parent / f"test_{path.stem}.py"


def untested() -> list[str]:
    """Modules with neither a test file of their own nor an entry in `TESTED_BY`."""
    return [module for module in modules() if not own_file(module).exists() and module not in TESTED_BY]


if __name__ == "__main__":
    own = sum(own_file(module).exists() for module in modules())
    print(*untested(), sep="\n")
    print(f"{len(modules())} modules: {own} with a file of their own, {len(TESTED_BY)} tested by another one")
