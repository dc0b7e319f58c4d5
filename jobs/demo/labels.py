"""The demo's last step: plant wrong labels, rank them, let simulated annotators answer, and write a corrected snapshot.

20 % of the labels (the icon packs) of 2,000 samples are replaced, those of packs with similar captions more often.
Costs 30 CPU seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml

SAMPLES, SHARE = 2000, 0.2
BUDGET = 600
MISTAKES = 0.05  # share of wrong answers of the simulated annotators

#: Runs a `curate` command, and returns what it answers with --json.
Command = Callable[..., dict[str, Any]]


def clean_labels(home: Path, curate: Command) -> dict[str, Any]:
    """Plant wrong labels below `home`, and let the commands of a review correct them. Returns the review's report."""
    home.mkdir(parents=True, exist_ok=True)
    plant(home)
    folds = curate("proxy", "train", "--objective", "classes", "--label", "label", "--folds", "3",
                   "--data", f"{home}/corpus", "--model", "proxy-patches", "--out", f"{home}/folds")  # fmt: skip
    recipe, queue, truth = home / "doubtful.yaml", f"{home}/queue", f"{home}/corpus/truth.parquet"
    template = files("jobs").joinpath("recipes/doubtful-labels.yaml").read_text()
    recipe.write_text(template.replace("{sha256}", folds["sha256"]))
    curate("run", str(recipe), "--accept-yield")
    curate("review", "build", str(recipe), "--budget", str(BUDGET), "--items", str(SAMPLES), "--label", "label",
           "--out", queue)  # fmt: skip
    curate("review", "annotate", queue, "--confusion", f"{home}/annotators.parquet", "--truth", truth)
    curate("review", "apply", queue, "--out", f"{home}/edits.parquet")
    corrected = {"corpus": f"{home}/corpus", "output": f"{home}/corrected", "edits": f"{home}/edits.parquet"}
    (home / "corrected.yaml").write_text(yaml.safe_dump(corrected, sort_keys=False))
    curate("run", str(home / "corrected.yaml"))
    return curate("review", "report", queue, "--truth", truth, "--html", f"{home}/report.html")


def plant(home: Path) -> None:
    """Write a corpus with wrong labels, and how the annotators err: on the same classes, less often."""
    from curation.corpora.label_noise import confusion_table, plant_wrong_labels
    from curation.storage.parquet import to_parquet
    from curation.storage.store import open_store

    source, target = open_store(str(home.parent / "corpus")), open_store(str(home / "corpus"))
    planted = plant_wrong_labels(source, target, label="pack", share=SHARE, limit=SAMPLES)
    click.echo(f"      {planted.changed:,} of {planted.samples:,} labels are wrong now, by similarity of captions")
    wrong = planted.confusion * MISTAKES / SHARE
    np.fill_diagonal(wrong, 1 - MISTAKES)
    open_store(str(home)).put("annotators.parquet", to_parquet(confusion_table(planted.classes, wrong)))


def lines(report: dict[str, Any]) -> list[str]:
    """Return what the review was worth, beside random order: each line names the simulated annotators."""
    truth, curve, who = report["truth"], report["curve"], report["annotators"]
    answers, found = report["cost"]["answers"], truth["fixed"] - truth["worse"]
    text = f"{who}: {truth['known'] - truth['correct_before']:,} of {truth['known']:,} labels were wrong; "
    text += f"{answers:,} answers corrected {found:,}"
    if curve["slope"] is None:
        return [text]
    return [text, f"{who}: {answers:,} answers in random order would have corrected {curve['slope'] * answers:,.0f}"]
