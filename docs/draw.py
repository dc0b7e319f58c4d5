"""Measure the imports of the code and draw the house: `make docs` writes docs/house.svg and docs/house.json, and the
counts in docs/architecture.md.

A *room* is a folder of `curation/`, or `actors/`, or `jobs/`. Every import counts: at the top of a file, inside a
function, or for types alone. A room's *floor* is one above the highest room that it imports; a *circle* is a set of
modules that import each other in a loop. Nothing is imported here: the files are parsed. Takes a second.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, TypeVar

import jinja2

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
TOPS = ("curation", "actors", "jobs")
MOST_FLOORS, MOST_EDGES = 13, 130  # between rooms

Node = TypeVar("Node", bound=Hashable)
Graph = Mapping[Node, set[Node]]  # importer -> what it imports


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file, of every module of the product."""
    found = {}
    for path in sorted(path for top in TOPS for path in (root / top).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of every import in a file; the name is empty for `import module`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.module, alias.name) for alias in node.names)


def graph(files: Mapping[str, Path]) -> dict[str, set[str]]:
    """Which module imports which."""

    def target(module: str, name: str) -> str | None:
        if f"{module}.{name}" in files:
            return f"{module}.{name}"
        return module if module in files else None

    return {
        name: {found for pair in imported(path) if (found := target(*pair)) not in (None, name)}
        for name, path in files.items()
    }


def room_of(module: str) -> str:
    """The room that a module lies in; `curation` for the public surface itself."""
    top, *rest = module.split(".")
    return f"{top}/{rest[0]}" if top == "curation" and rest else top


def between_rooms(edges: Graph[str]) -> dict[str, set[str]]:
    """Which room imports which."""
    found: dict[str, set[str]] = {room_of(module): set() for module in edges}
    for module, targets in edges.items():
        found[room_of(module)] |= {room_of(target) for target in targets} - {room_of(module)}
    return found


def floors(edges: Graph[Node]) -> dict[Node, int]:
    """Node -> its floor; the ground is 1. Raises `graphlib.CycleError` for a circle."""
    found: dict[Node, int] = {}
    for node in TopologicalSorter(edges).static_order():
        found[node] = 1 + max((found[target] for target in edges[node]), default=0)
    return found


def circles(edges: Graph[Node]) -> list[list[Node]]:
    """Circles, one at a time, each broken where it closes, until there is none left."""
    left = {node: set(targets) for node, targets in edges.items()}
    found = []
    while True:
        try:
            TopologicalSorter(left).prepare()
        except CycleError as error:
            *circle, last = reversed(error.args[1])
            found.append([*circle, last])
            left[circle[-1]].discard(last)
        else:
            return found


def measure(root: Path) -> dict[str, Any]:
    """What `docs/house.json` holds: rooms from the top floor down, and the counts of the whole."""
    files = modules(root)
    edges = graph(files)
    rooms = between_rooms(edges)
    circular = circles(edges)
    of_rooms = {} if circles(rooms) else floors(rooms)
    inside = {room: [name for name in files if room_of(name) == room] for room in rooms}
    lines = {room: sum(files[name].read_bytes().count(b"\n") for name in names) for room, names in inside.items()}
    return {
        "floors": max(of_rooms.values(), default=0),
        "edges": sum(map(len, rooms.values())),
        "circles": circular,
        "modules": len(files),
        "module_edges": sum(map(len, edges.values())),
        "longest_chain": 0 if circular else max(floors(edges).values()),
        "rooms": [
            {
                "room": room,
                "floor": of_rooms.get(room, 0),
                "modules": len(inside[room]),
                "lines": lines[room],
                "imports": sorted(rooms[room]),
            }
            for room in sorted(rooms, key=lambda room: (-of_rooms.get(room, 0), room))
        ],
    }


def picture(house: Mapping[str, Any]) -> str:
    """The house as SVG: a box a room, a row a floor, an arrow an import between rooms."""
    width, row, box, high = 960, 78, 150, 44
    rows: dict[int, list[dict[str, Any]]] = {}
    for room in house["rooms"]:
        rows.setdefault(room["floor"], []).append(room)
    places = {}
    for floor, members in rows.items():
        for number, room in enumerate(members):
            x = width * (number + 1) / (len(members) + 1) - box / 2
            places[room["room"]] = (round(x), (house["floors"] - floor) * row + 20)
    boxes = [
        {"x": x, "y": y, "name": room["room"], "modules": room["modules"], "lines": room["lines"]}
        for room in house["rooms"]
        for x, y in [places[room["room"]]]
    ]
    arrows = [
        {"x1": x + box // 2, "y1": y + high, "x2": places[target][0] + box // 2, "y2": places[target][1]}
        for room in house["rooms"]
        for x, y in [places[room["room"]]]
        for target in room["imports"]
    ]
    height = house["floors"] * row + 40
    return render("house.svg.jinja", boxes=boxes, arrows=arrows, width=width, height=height, box=box, high=high)


def render(template: str, **values: Any) -> str:
    """A template of this folder with these values, escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(DOCS), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(values)


def replace_block(text: str, name: str, lines: Sequence[str]) -> str:
    """Replace what stands between `<!-- NAME -->` and `<!-- end: NAME -->` in a page; both have to be there."""
    head, end = f"<!-- {name} -->\n", f"<!-- end: {name} -->"
    block = head + "".join(f"{line}\n" for line in lines) + end
    text, found = re.subn(rf"{head}.*?{end}", lambda match: block, text, flags=re.DOTALL)
    assert found == 1, f"no block {name}"
    return text


def counts(house: Mapping[str, Any]) -> list[str]:
    """The counts of the house beside those before it had rooms (commit 0710d9d), as a table of Markdown."""
    return [
        "| | before the rooms | now |",
        "|---|---:|---:|",
        f"| floors: rooms, each one above what it imports | 18 | {house['floors']} |",
        f"| imports between rooms | 303 | {house['edges']} |",
        f"| circles | 4 | {len(house['circles'])} |",
    ]


def outputs(house: Mapping[str, Any]) -> dict[Path, str]:
    """File -> its text, of everything that this script writes."""
    page = DOCS / "architecture.md"
    return {
        DOCS / "house.json": json.dumps(house, indent=1) + "\n",
        DOCS / "house.svg": picture(house),
        page: replace_block(page.read_text(encoding="utf-8"), "house", counts(house)),
    }


def main() -> int:
    """Write the files and print the counts. 1 if the house has a circle, or too many floors or edges."""
    house = measure(ROOT)
    for path, text in outputs(house).items():
        path.write_text(text, encoding="utf-8")
    print(
        f"{len(house['rooms'])} rooms on {house['floors']} floors (at most {MOST_FLOORS}), {house['edges']} edges "
        f"between rooms (at most {MOST_EDGES}), {len(house['circles'])} circles; {house['modules']} modules, "
        f"{house['module_edges']} edges, longest chain {house['longest_chain']}"
    )
    return int(bool(house["circles"]) or house["floors"] > MOST_FLOORS or house["edges"] > MOST_EDGES)


if __name__ == "__main__":
    sys.exit(main())
