"""Where the time of scoring workers went: which stage limits a run, and how close the run comes to that limit.

A worker on a CPU decodes and runs its models one after the other on the same core: both are its work, and what is left
of its time (waits for the store, tables, starting) is overhead. A worker on a GPU is fed by decode tasks and takes the
next batch while the GPU works on one: its time for decoding is what it waits for samples, its time for models what it
waits for the GPU, and the larger of the two is the limit.

Cost: four reads of a clock for each batch, 0.3 us.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from curation.storage import store_waits

STAGES = {
    "starting": "start and load models",
    "store": "wait for the store",
    "decode": "read and decode",
    "models": "models",
    "tables": "build and commit tables",
}


@dataclass
class StageSeconds:
    """Wall seconds of workers, by stage. ahead: whether other workers decoded, so that decoding and models overlap."""

    starting: float = 0.0
    store: float = 0.0
    decode: float = 0.0
    models: float = 0.0
    tables: float = 0.0
    ahead: bool = False

    def add(self, other: StageSeconds) -> None:
        """Add the seconds of other workers or calls."""
        for stage in STAGES:
            setattr(self, stage, getattr(self, stage) + getattr(other, stage))
        self.ahead |= other.ahead

    def total(self) -> float:
        """Return the sum of all stages."""
        return float(sum(getattr(self, stage) for stage in STAGES))

    @contextmanager
    def spent(self, stage: str) -> Iterator[None]:
        """Count the time of the block for `stage`, without this thread's waits for the store, which have their own."""
        start, waited = time.perf_counter(), store_waits.waiting.seconds
        try:
            yield
        finally:
            waited = store_waits.waiting.seconds - waited
            self.store += waited
            setattr(self, stage, getattr(self, stage) + time.perf_counter() - start - waited)

    def efficiency(self) -> Efficiency | None:
        """Return the limit and the share of the time spent on it. None where nothing was scored."""
        working = self.total() - self.starting
        if working <= 0:
            return None
        if not self.ahead:
            return Efficiency("decode + models", (self.decode + self.models) / working)
        limit = "models" if self.models >= self.decode else "decode"
        return Efficiency(limit, (self.models if limit == "models" else self.decode) / working)

    def line(self) -> str:
        """Describe the efficiency in one line; empty where nothing was scored."""
        found = self.efficiency()
        if found is None:
            return ""
        working = self.total() - self.starting
        stages = sorted(((getattr(self, name), name) for name in STAGES if name != "starting"), reverse=True)
        shares = ", ".join(f"{STAGES[name]} {spent / working:.0%}" for spent, name in stages if spent >= working / 200)
        return (
            f"efficiency: {found.share:.0%} of the workers' {working:,.1f} s went into the limit, {found.limit} "
            f"({shares}); starting took {self.starting:,.1f} s"
        )

    def to_json(self) -> dict[str, Any] | None:
        """Return limit, share and seconds by stage; None where nothing was scored."""
        found = self.efficiency()
        seconds = {stage: round(getattr(self, stage), 3) for stage in STAGES}
        return {"limit": found.limit, "share": round(found.share, 4), "seconds": seconds} if found else None


@dataclass(frozen=True)
class Efficiency:
    """limit: the stage that limits a run. share: of the workers' time that it took, starting not counted: 0 to 1."""

    limit: str
    share: float
