"""Clocks around the models of a run: samples and device-seconds of each role."""

from __future__ import annotations

import time

import torch

from curation.learners.learner import Learner, StepReport
from curation.models.batches import SuperBatch, TrainingBatch
from curation.models.model_outputs import Outputs


class TimedModel:
    """A model that counts its samples and device-seconds, for samples/s and the ledger of compute."""

    def __init__(self, model: Learner) -> None:
        self.model = model
        self.devices = 1  # devices that share the model's work
        self.samples, self.seconds = 0, 0.0
        self.updating, self.scoring = 0.0, 0.0  # wall seconds of this process' updates, and of its scoring
        self.before = 0.0  # seconds of earlier parts of the run

    @property
    def steps(self) -> int:
        """The model's updates."""
        return self.model.steps

    def step(self, batch: TrainingBatch) -> StepReport:
        """Make an update; see `Learner.step`."""
        began = time.monotonic()
        report = self.model.step(batch)
        self.updating += self._count(began, len(batch.pixels))
        return report

    def outputs(self, candidates: SuperBatch) -> Outputs:
        """Score candidates; see `Learner.outputs`."""
        began = time.monotonic()
        outputs = self.model.outputs(candidates)
        self.scoring += self._count(began, len(candidates.rows))
        return outputs

    def fingerprint(self) -> str:
        """Return the sha256 of the current weights."""
        return self.model.fingerprint()

    def add(self, samples: int, seconds: float) -> None:
        """Add work that another process did."""
        self.samples += samples
        self.seconds += seconds

    def _count(self, began: float, samples: int) -> float:
        """Count a call that began at `time.monotonic() == began`; return its wall seconds."""
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)  # otherwise the next role to wait would be charged
        seconds = time.monotonic() - began
        self.add(samples, self.devices * seconds)
        return seconds
