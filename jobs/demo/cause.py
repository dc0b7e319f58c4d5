"""The demo's end: plant a cause of failures, find it by the failures alone, drop it, and train again.

Of 2,000 emoji and icons, 100 emoji get a mark and the label of an icon. The model learns that the mark means an icon,
and fails on marked emoji that it has not seen. Costs about 60 CPU seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import yaml

SAMPLES, PLANTED, FIELD = 2000, 100, 600
STEPS = 200

#: Runs a `curate` command, and returns what it answers with --json.
Command = Callable[..., dict[str, Any]]


def find_cause(home: Path, curate: Command) -> dict[str, Any]:
    """Plant a cause below `home`, and let the commands of a diagnosis find and remove it. Returns what was found."""
    home.mkdir(parents=True, exist_ok=True)
    planted = plant(home)
    before = learn(home, "failing", f"{home}/corpus", curate)
    failures, trace = f"{home}/failures.parquet", f"{home}/trace"
    found = curate("diagnose", "failures", before, "--data", f"{home}/field", "--label", "label",
                   "--where", "expected=emoji", "--out", failures)  # fmt: skip
    traced = curate("diagnose", "trace", before, "--failures", failures, "--data", f"{home}/corpus", "--label", "label",
                    "--count", str(PLANTED), "--out", trace)  # fmt: skip
    without = {"corpus": f"{home}/corpus", "output": f"{home}/without", "edits": f"{trace}/drops.parquet"}
    (home / "without.yaml").write_text(yaml.safe_dump(without, sort_keys=False))
    curate("run", str(home / "without.yaml"))
    after = learn(home, "again", f"{home}/without", curate)
    judged = curate("evaluate", before, after, "--against", f"{home}/field", "--labels", "before", "--label", "label")
    curate("diagnose", "report", trace, "--failures", failures, "--out", f"{home}/report.html")
    rates = [judged["models"][name]["labels"]["before"]["rate"] for name in (before, after)]
    share = len(planted & {sample["uid"] for sample in traced["top"]})
    return {"failures": found["failures"], "found": share, "rates": rates}


def plant(home: Path) -> set[str]:
    """Write the training corpus and the field; return the uids of the samples that are the cause."""
    from curation.corpora.planted_cause import plant_cause
    from curation.storage.store import open_store

    stores = [open_store(str(path)) for path in (home.parent / "corpus", home / "corpus", home / "field")]
    found = plant_cause(
        *stores, by="pack", value="openmoji", names=("emoji", "icon"), samples=SAMPLES, planted=PLANTED, judged=FIELD
    )
    text = f"{len(found.planted):,} of {found.training:,} training samples are marked emoji with the label of an icon"
    click.echo(f"      {text}; in the field {found.marked:,} of {found.field:,} are marked emoji")
    return set(found.planted)


def learn(home: Path, name: str, data: str, curate: Command) -> str:
    """Train a classifier of emoji and icons; return its folder."""
    learner = {"model": "proxy-mu", "steps": STEPS, "batch": 64, "label": "label"}
    recipe = {
        "data": data, "output": f"{home}/{name}", "learner": {"classification": learner},
        "selection": {"selector": "uniform"}, "holdout": 0.1, "evaluate_every": STEPS, "device": "cpu",
    }  # fmt: skip
    (home / f"{name}.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    curate("learn", str(home / f"{name}.yaml"))
    return f"{home}/{name}"


def lines(found: dict[str, Any]) -> list[str]:
    """Return what was found, and what training again without it changed."""
    before, after = found["rates"]
    text = f"cause: {found['found']} of the first {PLANTED} traced samples are the {PLANTED} that were planted"
    return [text, f"field accuracy {before:.1%} before, {after:.1%} after training again without the traced samples"]
