"""Clocks around the models of a run: samples and device-seconds of each role."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from curation.models.batches import SuperBatch


class TimedModel:
    """A model that counts its samples and device-seconds, for samples/s and the ledger of compute."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.devices = 1  # devices that share the model's work
        self.samples, self.seconds = 0, 0.0
        self.before = 0.0  # seconds of earlier parts of the run

    @property
    def steps(self) -> int:
        """The model's updates."""
        return int(self.model.steps)

    def step(self, batch: Any) -> Any:
        """Make an update; see `Learner.step`."""
        return self._count(len(batch.pixels), self.model.step, batch)

    def outputs(self, candidates: SuperBatch) -> Any:
        """Score candidates; see `Learner.outputs`."""
        return self._count(len(candidates.rows), self.model.outputs, candidates)

    def fingerprint(self) -> str:
        """Return the sha256 of the current weights."""
        return str(self.model.fingerprint())

    def add(self, samples: int, seconds: float) -> None:
        """Add work that another process did."""
        self.samples += samples
        self.seconds += seconds

    def _count(self, samples: int, call: Callable[[Any], Any], argument: Any) -> Any:
        began = time.monotonic()
        found = call(argument)
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)  # otherwise the next role to wait would be charged
        self.add(samples, self.devices * (time.monotonic() - began))
        return found
