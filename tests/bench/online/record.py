"""The recorded runs behind docs/results/online-selection.md, one line each in measured.jsonl.

Continuing the bench need not repeat them: `--recorded` puts them into its cache. They were measured on the machines
that the page names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.online.runs import Arm, cached, identity

FILE = Path(__file__).parent / "measured.jsonl"
MOST_SEEDS = 10


def save(folder: Path, arms: Mapping[str, Mapping[str, Arm]]) -> None:
    """Add the cached runs on the reported set to the record; those of other arms stay in it."""
    found = {line["id"]: line for line in _lines()}
    for workload, named in arms.items():
        for name, arm in named.items():
            for seed in range(MOST_SEEDS):
                run = cached(workload, arm, seed, "test", folder)
                if run is not None:
                    key = identity(workload, arm, seed, "test")
                    found[key] = {"id": key, "name": name, **run, "curve": [_rounded(point) for point in run["curve"]]}
    rows = sorted(found.values(), key=lambda row: (row["workload"], row["name"], row["seed"], row["id"]))
    FILE.write_text("".join(json.dumps(row) + "\n" for row in rows))


def restore(folder: Path) -> None:
    """Copy the recorded runs into the cache, where it has none."""
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    for row in _lines():
        file = folder / "runs" / f"{row['id']}.json"
        if not file.exists():
            file.write_text(json.dumps({name: value for name, value in row.items() if name not in ("id", "name")}))


def found(arms: Mapping[str, Mapping[str, Arm]]) -> dict[tuple[str, str], dict[int, list[dict[str, Any]]]]:
    """(workload, arm) -> seed -> curve, of the recorded runs of these arms."""
    rows = {line["id"]: line for line in _lines()}
    curves: dict[tuple[str, str], dict[int, list[dict[str, Any]]]] = {}
    for workload, named in arms.items():
        for name, arm in named.items():
            for seed in range(MOST_SEEDS):
                if row := rows.get(identity(workload, arm, seed, "test")):
                    curves.setdefault((workload, name), {})[seed] = row["curve"]
    return curves


def _lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILE.read_text().splitlines()] if FILE.exists() else []


def _rounded(point: Mapping[str, Any]) -> dict[str, Any]:
    """Round to the digits that tables can show."""
    found = {name: round(value, 5) if isinstance(value, float) else value for name, value in point.items()}
    return {**found, "totals": {name: round(value) for name, value in point["totals"].items()}}
