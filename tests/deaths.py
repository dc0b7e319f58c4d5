"""A pool of samples that end processes, and the actors and drivers that score it, without Ray and without processes.

What ends a process raises `Death` here, which nothing catches on its way; the next "process" opens the same box.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from builders import picture

from curation.core.types import ShardRef
from curation.curating.scoring import black_box
from curation.curating.scoring.batches import units_table
from curation.curating.scoring.black_box import BlackBox
from curation.curating.scoring.dispatch import _Work
from curation.curating.scoring.scoring_task import CallProgress, ScoringTask
from curation.curating.scoring.unit_scorer import UnitScorer
from curation.ledger import score_tables as scores
from curation.ledger.attempts import Attempt, recorded
from curation.ledger.ledger import Ledger
from curation.recipes.curation_recipe import Compute
from curation.scorers import Batch
from curation.scorers.scorer import CaptionNumberScorer
from curation.shards import unit_reader as units
from curation.shards.images import DecodeLimits
from curation.shards.tar_writer import TarWriter
from curation.storage.store import open_store

DIES, RAISES, LEAVES, DECODE = "dies", "raises", "leaves", "decode"
REASONS = {DIES: "poison_died", RAISES: "poison_raised", LEAVES: "poison_died", DECODE: "poison_died"}


class Death(BaseException):
    """The end of a process."""


class Letters(CaptionNumberScorer):
    """Counts letters; what it does instead depends on the caption's last word."""

    def __init__(self, count: list[int]) -> None:
        self.count = count  # samples of every call

    def identity(self) -> Mapping[str, Any]:
        return {"scorer": "letters"}

    def load(self, device: Any, options: Any) -> Callable[[Batch], np.ndarray]:
        def score(batch: Batch) -> np.ndarray:
            self.count.append(len(batch.captions))
            for caption in batch.captions:
                match caption.split()[-1:]:
                    case ["dies"]:
                        raise Death
                    case ["raises"]:
                        raise ValueError("no")
                    case ["leaves"]:
                        raise SystemExit(3)
            return np.array([len(caption) for caption in batch.captions], np.float32)

        return score


class Box(BlackBox):
    """A real box of a process that keeps its notes when it "dies", and does not watch itself."""

    def watched(self, seconds: float) -> AbstractContextManager[None]:
        return nullcontext()

    def idle(self) -> None:
        if not isinstance(sys.exception(), Death):
            super().idle()


class Pool:
    """One shard of `n` samples, of which some are bad, and one actor after the other that scores it."""

    def __init__(self, root: Path, n: int, deeds: Mapping[int, str], batch_size: int, others: int = 0) -> None:
        self.root, self.deeds, self.count, self.deaths = root, deeds, list[int](), 0
        (root / "pool").mkdir(parents=True)
        (root / "scores").mkdir()
        for shard in range(1 + others):
            self._write(shard, n if not shard else 5, deeds if not shard else {})
        store = open_store(str(root / "pool"))
        self.shards = sorted(ShardRef(item.key, item.size, item.etag) for item in store.list())
        self.job = ScoringTask(
            store, Ledger(open_store(str(root / "scores"))), scores.Column("index", "f0"),
            [scores.Column("letters", "f1")], {"letters": Letters(self.count)}, DecodeLimits(),
            Compute(batch_size=batch_size, num_cpus=1),
        )  # fmt: skip

    def _write(self, shard: int, n: int, deeds: Mapping[int, str]) -> None:
        image = picture(1, "jpg", 16)
        with (self.root / "pool" / f"{shard}.tar").open("wb") as file:
            writer = TarWriter(file)
            for row in range(n):
                deed = deeds.get(row, "")
                writer.add(f"{row:06d}.jpg", image + (b"poison" if deed == DECODE else b""))
                writer.add(f"{row:06d}.txt", f"{'a' * (row % 7 + 1)} {deed if deed != DECODE else ''}".encode())
            writer.close()

    def score(self, most_deaths: int = 1 << 30) -> CallProgress:
        """One driver's work; it is "killed" after at most so many deaths."""
        work, actor, total = _Work(self.job, units_table(self.shards)), None, CallProgress()
        while work.left() and self.deaths < most_deaths:
            call = work.next(1)
            assert call is not None
            actor = actor or UnitScorer(self.job, Box(self.root / "box"))
            try:
                progress = actor.score(call.number, call.units, call.care)
                work.suspects.done(call.units, call.care, progress)
                total.samples += progress.samples
            except Death:
                actor, self.deaths = None, self.deaths + 1
                assert not list(work.died(call, black_box.read(self.root / "box"), False))
        return total

    def values(self) -> list[float | None]:
        column: list[float | None] = scores.read(self.job.scored, self.shards[0], self.job.columns[0])[
            "value"
        ].to_pylist()
        return column

    def reasons(self) -> dict[int, str]:
        """Row -> why it was set aside, of the tables."""
        index = scores.read(self.job.scored, self.shards[0], self.job.index, ["reason"])["reason"].to_pylist()
        record = scores.record_of(self.job.scored, self.shards[0], self.job.columns[0])
        found = {row: reason for row, reason in enumerate(index) if reason}
        return found | {int(row): reason for row, reason in record.poison.items()}

    def attempts(self) -> list[Attempt]:
        return list(recorded(self.job.scored))


def inspected(data: bytes, *arguments: Any, inspect: Callable[..., Any] = units.inspect) -> Any:
    """`units.inspect`, which the decoder's bad samples end the process in."""
    if data.endswith(b"poison"):
        raise Death
    return inspect(data, *arguments)
