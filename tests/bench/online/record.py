"""The runs behind RESULTS.md, a line each in measured.jsonl: who goes on with the bench need not repeat them.

They are measurements of the machines that RESULTS.md names, and read only where `--recorded` asks for them.
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
    """Put the kept runs of the reported set into the record, beside those that it has of other arms."""
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
    """Put the recorded runs among the kept ones, where they are not there."""
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    for row in _lines():
        file = folder / "runs" / f"{row['id']}.json"
        if not file.exists():
            file.write_text(json.dumps({name: value for name, value in row.items() if name not in ("id", "name")}))


def _lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILE.read_text().splitlines()] if FILE.exists() else []


def _rounded(point: Mapping[str, Any]) -> dict[str, Any]:
    """Without the digits that no table shows."""
    found = {name: round(value, 5) if isinstance(value, float) else value for name, value in point.items()}
    return {**found, "totals": {name: round(value) for name, value in point["totals"].items()}}
