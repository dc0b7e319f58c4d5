"""Draw the flow: `make docs` writes docs/flow.svg and the table of steps in docs/architecture.md.

`STEPS` names, for each step, what it reads and writes, the commands that run it, and the function or class behind it.
`check` compares this table with the code: every function exists, every command is registered in `jobs/cli.py`, imports
the code of its steps, and stands either in a step or in `OTHER_COMMANDS`. So the picture can't drift from the code.
Nothing is imported here: the files are parsed. Takes a second.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from draw import DOCS, ROOT, graph, modules, render, replace_block


@dataclass(frozen=True)
class Step:
    """One step of the flow. `code`: module and name in it, of what does the step."""

    name: str
    commands: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    code: tuple[str, str]


STEPS = (
    Step("plan", ("plan", "run"), ("corpus",), ("plan",), ("curation.ledger.ledger", "Ledger.plan")),
    Step("train a proxy", ("proxy",), ("corpus",), ("proxy models",), ("curation.evaluation.training", "run")),
    Step(
        "score", ("run",), ("plan", "proxy models"), ("score tables",),
        ("curation.ledger.score_tables", "commit_score"),
    ),
    Step("ask what-if", ("what-if",), ("score tables",), (), ("curation.curating.what_if", "WhatIf")),
    Step("decide", ("run",), ("score tables",), ("decisions",), ("curation.curating.decisions", "Decisions.decide")),
    Step(
        "write", ("run",), ("decisions", "corpus"), ("shards and manifest",),
        ("curation.curating.writing", "GroupWriter"),
    ),
    Step(
        "create the snapshot", ("run",), ("shards and manifest",), ("snapshot",),
        ("curation.ledger.snapshots", "Snapshots.create_snapshot"),
    ),
    Step("verify", ("verify",), ("snapshot", "corpus"), (), ("curation.curating.verification", "")),
    Step(
        "learn", ("learn",), ("snapshot", "score tables", "proxy models"), ("weights, metrics, data policy",),
        ("curation.selection.online", "online_selection"),
    ),
    Step(
        "review", ("review",), ("score tables", "corpus"), ("queue and answers",),
        ("curation.review.queue", "Queue.record"),
    ),
    Step(
        "evaluate", ("evaluate",), ("snapshot", "corpus"), ("evaluation",),
        ("curation.evaluation.trials", "run_trial"),
    ),
)  # fmt: skip
#: Commands that build the example corpus, start a job elsewhere, repair, clean up, trace failures, or only read.
OTHER_COMMANDS = (
    "corpus", "edits", "submit", "repair", "gc", "status", "show", "diff", "groups", "matches", "quarantine", "scores",
    "policy", "rooms", "recipes", "diagnose",
)  # fmt: skip


def registered(root: Path) -> dict[str, str]:
    """Command of `curate` -> the module that defines it, as `jobs/cli.py` imports them."""
    tree = ast.parse((root / "jobs/cli.py").read_text(encoding="utf-8"))
    return {
        alias.name.replace("_", "-"): node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("jobs.commands.")
        for alias in node.names
    }


def check(root: Path) -> list[str]:
    """How the table of steps differs from the code: a line for each difference."""
    files, commands = modules(root), registered(root)
    edges = graph(files)
    found = [f"{step.name}: {':'.join(step.code)} does not exist" for step in STEPS if not _exists(files, *step.code)]
    placed = {name for step in STEPS for name in step.commands} | set(OTHER_COMMANDS)
    found += [f"curate {name}: in no step and not in OTHER_COMMANDS" for name in sorted(commands.keys() - placed)]
    found += [f"curate {name}: not registered in jobs/cli.py" for name in sorted(placed - commands.keys())]
    for step in STEPS:
        for name in commands.keys() & set(step.commands):
            if not any(f"{module}.".startswith(f"{step.code[0]}.") for module in _reached(edges, commands[name])):
                found.append(f"{step.name}: curate {name} does not import {step.code[0]}")
    return found


def _exists(files: Mapping[str, Path], module: str, name: str) -> bool:
    if module not in files:
        return False
    body: Sequence[ast.stmt] = ast.parse(files[module].read_text(encoding="utf-8")).body
    for part in filter(None, name.split(".")):
        found = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == part]
        if not found:
            return False
        body = found[0].body
    return True


def _reached(edges: Mapping[str, set[str]], start: str) -> set[str]:
    """A module and everything that it imports, directly or through others."""
    seen, left = set[str](), [start]
    while left:
        module = left.pop()
        if module not in seen:
            seen.add(module)
            left += edges[module]
    return seen


def levels() -> list[list[str]]:
    """Documents and steps, row by row: each one below everything that it needs."""
    needs: dict[str, set[str]] = {}
    for step in STEPS:
        needs.setdefault(f"step:{step.name}", set()).update(step.reads)
        for document in step.reads:
            needs.setdefault(document, set())
        for document in step.writes:
            needs.setdefault(document, set()).add(f"step:{step.name}")
    row: dict[str, int] = {}
    for node in TopologicalSorter(needs).static_order():
        row[node] = 1 + max((row[need] for need in needs[node]), default=-1)
    order = list(needs)
    found: list[list[str]] = [[] for _ in range(max(row.values()) + 1)]
    for node in sorted(row, key=order.index):
        found[row[node]].append(node)
    return found


WIDTH, HIGH, GAP, BOX = 1120, 46, 30, 250  # of the picture; of boxes and the space between rows


def picture() -> str:
    """The flow as SVG: a rounded box a document, a square one a step, an arrow where a step reads or writes."""
    steps = {f"step:{step.name}": step for step in STEPS}
    boxes, places = [], {}
    for row, nodes in enumerate(levels()):
        for column, node in enumerate(nodes):
            x = round(WIDTH / 2 + (column - (len(nodes) - 1) / 2) * (BOX + 40))
            places[node] = (x, 20 + row * (HIGH + GAP), row)
            step = steps.get(node)
            below = ", ".join(f"curate {name}" for name in step.commands) if step else ""
            boxes.append({"x": x - BOX // 2, "y": places[node][1], "name": step.name if step else node,
                          "below": below, "step": bool(step)})  # fmt: skip
    arrows, lanes = [], {-1: 0, 1: 0}
    for one, other in _edges():
        (x1, y1, row1), (x2, y2, row2) = places[one], places[other]
        if row2 == row1 + 1:
            arrows.append(f"M{x1},{y1 + HIGH} L{x2},{y2}")
        else:  # past other rows: along a lane at a side, so that no box hides it
            side = -1 if x1 + x2 < WIDTH else 1
            lane = WIDTH // 2 + side * (WIDTH // 2 - 15 - 14 * lanes[side])
            turn, end = y2 - 7 - 5 * lanes[side], x2 + side * (30 + 20 * lanes[side])
            arrows.append(f"M{x1 + side * BOX // 2},{y1 + HIGH // 2} H{lane} V{turn} H{end} V{y2}")
            lanes[side] += 1
    height = 20 + len(levels()) * (HIGH + GAP)
    return render("flow.svg.jinja", boxes=boxes, arrows=arrows, width=WIDTH, height=height, box=BOX, high=HIGH)


def _edges() -> Iterator[tuple[str, str]]:
    """(from, to) of every arrow; those out of one document together."""
    arrows = [(document, f"step:{step.name}") for step in STEPS for document in step.reads]
    arrows += [(f"step:{step.name}", document) for step in STEPS for document in step.writes]
    yield from sorted(arrows, key=lambda arrow: arrow[0])


def table() -> list[str]:
    """The steps as a table of Markdown."""
    lines = ["| step | commands | reads | writes | code |", "|---|---|---|---|---|"]
    for step in STEPS:
        commands = ", ".join(f"`curate {name}`" for name in step.commands)
        code = "`" + ":".join(filter(None, step.code)) + "`"
        lines.append(
            f"| {step.name} | {commands} | {', '.join(step.reads)} | {', '.join(step.writes) or '-'} | {code} |"
        )
    return lines


def outputs() -> Mapping[Path, Any]:
    """File -> its text, of everything that this script writes."""
    page = DOCS / "architecture.md"
    return {DOCS / "flow.svg": picture(), page: replace_block(page.read_text(encoding="utf-8"), "flow", table())}


def main() -> int:
    """Write both and print the differences between table and code. 1 if there is one."""
    found = check(ROOT)
    for line in found:
        print(f"docs/flow.py: {line}; change STEPS")
    for path, text in outputs().items():
        path.write_text(text, encoding="utf-8")
    print(f"{len(STEPS)} steps, {len(registered(ROOT))} commands, {len(found)} differences from the code")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
