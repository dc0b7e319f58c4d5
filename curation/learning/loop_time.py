"""Where the wall time of a learner's loop went, and the cost of selection: measured, and predicted from FLOPs.

    rate       seconds in the learner's updates / seconds of the loop, without evaluations and checkpoints
    measured   device-seconds of scoring and of the small models' updates / of the learner's updates
    predicted  FLOPs of the same work / FLOPs of the learner's updates

`rate` compares the loop with the bare update, called again and again in the same process: what other cores do slows
both. Counted from this process' second update on, since the first one imports packages and allocates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from curation.learning.timing import TimedModel


class LoopTime:
    """The clock of the loop of one process. timed: the models by role. flops: returns the ledger's parts."""

    def __init__(self, timed: Mapping[str, TimedModel], flops: Callable[[], Mapping[str, float]]) -> None:
        self._timed, self._flops = timed, flops
        self._apart = self._waited = 0.0
        self._begin: dict[str, float] | None = None
        self._updates = 0

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Leave the time of the block out of the loop's: an evaluation or a checkpoint."""
        began = time.monotonic()
        yield
        self._apart += time.monotonic() - began

    def waited(self, seconds: float) -> None:
        """Count a wait of the loop for choices of other processes."""
        self._waited += seconds

    def updated(self) -> None:
        """Count an update whose record is complete."""
        if self._begin is None:
            self._begin = self._spent()
        else:
            self._updates += 1

    def document(self) -> dict[str, Any] | None:
        """Return `overhead` of the summary; None where this process made fewer than two updates.

        `selection` is None where nothing was scored and no small model was trained.
        """
        if not self._updates or self._begin is None:
            return None
        spent = {name: value - self._begin[name] for name, value in self._spent().items()}
        measured = spent["selection_device"] / spent["learner_device"]
        predicted = spent["selection_flops"] / spent["learner_flops"] if spent["learner_flops"] else 0.0
        seconds = {name: round(spent[name], 3) for name in ("loop", "updating", "waiting", "scoring", "small_models")}
        return {
            "updates": self._updates,
            "seconds": seconds,
            "rate": round(spent["updating"] / spent["loop"], 4),
            "selection": {
                "measured": round(measured, 4),
                "predicted": round(predicted, 4),
                "difference": round(measured - predicted, 4),
            }
            if measured or predicted
            else None,
        }

    def _spent(self) -> dict[str, float]:
        """Return the seconds and FLOPs so far."""
        learner, flops = self._timed["learner"], self._flops()
        others = [timed for role, timed in self._timed.items() if role != "learner"]
        return {
            "loop": time.monotonic() - self._apart,
            "updating": learner.updating,
            "waiting": self._waited,
            "scoring": sum(timed.scoring for timed in self._timed.values()),
            "small_models": sum(timed.updating for timed in others),
            "learner_device": learner.devices * learner.updating,
            "selection_device": sum(timed.seconds for timed in self._timed.values())
            - learner.devices * learner.updating,
            "learner_flops": flops["learning"],
            "selection_flops": flops["scoring"] + flops["online"] + flops["reference"],
        }
