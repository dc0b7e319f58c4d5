"""Tune a failing model on one group of failures, and see which held-out failures that repairs.

The tuning starts from the failing model each time. Every step mixes as many samples that were right with the failures,
and the tuning ends when less than `kept` of a separate draw of such samples stays right (2109.12347, section 3.2).
A measured group is committed as a file, named by a digest of everything that determines it, and is not measured again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from curation.core.digest import digest
from curation.diagnosis.pictures import LabelledPictures
from curation.diagnosis.tuning import Step, TunedClassifier, batches, tune
from curation.diagnosis.type_matrix import FailureGroup, TunedRow

CODE = 1  # version of the tuning


@dataclass(frozen=True)
class TypeTuning:
    """How the model is tuned on a group. lr: the step size of Adam. batch: failures of a step, and right samples."""

    lr: float = 3e-4
    most: int = 60
    batch: int = 32
    kept: float = 0.9
    every: int = 5
    seed: int = 0


@dataclass(frozen=True)
class GroupTuner:
    """Tunes fresh copies of a model.

    failures: those of all groups, query and validation. held_out: the failures that judge. right: samples that the
    model is right about, of which a group takes as many as it has failures. judge: others, which may stop a tuning.
    """

    fresh: Callable[[], TunedClassifier]
    failures: LabelledPictures
    held_out: LabelledPictures
    right: LabelledPictures
    judge: LabelledPictures
    settings: TypeTuning

    def __call__(self, group: FailureGroup) -> TunedRow:
        """Tune on the members of a group, and judge all held-out failures."""
        began = time.monotonic()
        settings, classifier, wanted = self.settings, self.fresh(), set(group.members)
        members = self.failures.take([row for row, uid in enumerate(self.failures.uids) if uid in wanted])
        right = self.right.take(range(min(len(members), len(self.right))))
        kept = 1.0

        def broken(done: int) -> bool:
            nonlocal kept
            kept = float(classifier.right(self.judge).float().mean()) if len(self.judge) else 1.0
            return kept < settings.kept

        steps = batches([members, right], [settings.batch, settings.batch], settings.seed)
        done = tune(
            classifier, steps, partial(_loss, classifier), lr=settings.lr, most=settings.most, stop=broken,
            every=settings.every,
        )  # fmt: skip
        stopped = broken(done)
        correct = classifier.right(self.held_out).tolist()
        uids = frozenset(uid for uid, hit in zip(self.held_out.uids, correct, strict=True) if hit)
        return TunedRow(uids, kept, stopped, done, time.monotonic() - began)

    def facts(self) -> dict[str, Any]:
        """Return what determines a row beside the model and the group."""
        parts = {"held_out": self.held_out, "right": self.right, "judge": self.judge}
        uids = {name: list(pictures.uids) for name, pictures in parts.items()}
        return {"code": CODE, "settings": asdict(self.settings), **uids}


def _loss(classifier: TunedClassifier, step: Step) -> Tensor:
    pixels, targets = (torch.cat(parts) for parts in zip(*step, strict=True))
    return cross_entropy(classifier.logits(pixels), targets)


@dataclass(frozen=True)
class CommittedRows:
    """Rows in a folder: `<digest>.json`, each written whole, once.

    facts: everything that determines a row beside its group.
    """

    folder: Path
    measure: Callable[[FailureGroup], TunedRow]
    facts: Mapping[str, Any]

    def __call__(self, group: FailureGroup) -> TunedRow:
        """Return a group's row, measured if it is not there yet."""
        path = self.folder / f"{digest({**self.facts, 'members': group.members})[:32]}.json"
        if path.exists():
            found = json.loads(path.read_bytes())
            return TunedRow(**{**found, "right": frozenset(found["right"])})
        row = self.measure(group)
        self.folder.mkdir(parents=True, exist_ok=True)
        partial_file = path.with_suffix(".part")
        partial_file.write_text(json.dumps({**row._asdict(), "right": sorted(row.right)}))
        partial_file.replace(path)
        return row
