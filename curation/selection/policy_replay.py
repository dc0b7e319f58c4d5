"""The replay of a data policy: another learner trains on the recorded sub-batches.

A replay needs the samples, found by uid, and no model: scoring is paid once for learners of every size. Source:
2312.05328, section 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any

import numpy as np
import torch

from curation.core.errors import UserError
from curation.models.batches import TrainingBatch
from curation.selection.online import Choice, OnlineStep
from curation.selection.policy import Policy, PolicyStep
from curation.selection.pool import Pool
from curation.selection.pool_blocks import joined, split


def replay(
    learner: Any, pool: Pool, policy: Policy, until: int | None = None, *, shared: int = 1
) -> Iterator[OnlineStep]:
    """Train `learner` on the recorded sub-batches from its current step on, without scoring; yield after each step.

    pool: may have another order, or more samples. If it exceeds memory, half of the memory holds the samples of the
    next steps, which are gathered together, shard by shard. until: the step to stop before; None: replay all.
    shared: learners that share the memory, each with the samples of its own next steps.
    Raises `UserError` for a recorded sample that the pool does not have.
    """
    finder, room = _SampleFinder(pool, policy), pool.blocks.room
    steps = takewhile(lambda step: until is None or step.number < until, policy.steps(learner.steps))
    for group in _groups(steps, 0 if room is None else 2 * room // shared):
        yield from _train_on(learner, pool, group, [finder.rows(step.candidates[step.chosen]) for step in group])


def _train_on(
    learner: Any, pool: Pool, group: Sequence[PolicyStep], rows: Sequence[torch.Tensor]
) -> Iterator[OnlineStep]:
    """Make the steps of a group, whose samples are gathered in memory."""
    batch, start = pool.rows(torch.cat(list(rows))).batch, 0
    for step, own in zip(group, rows, strict=True):
        report = learner.step(TrainingBatch(*(column[start : start + len(own)] for column in batch)))
        start += len(own)
        yield OnlineStep(Choice(step.number, own, None, torch.arange(len(own))), report, None, proxies=False)


def _groups(steps: Iterable[PolicyStep], samples: int) -> Iterator[list[PolicyStep]]:
    """Group consecutive steps with at most `samples` chosen samples; a larger step is a group of its own."""
    group: list[PolicyStep] = []
    held = 0
    for step in steps:
        if group and held + len(step.chosen) > samples:
            yield group
            group, held = [], 0
        group.append(step)
        held += len(step.chosen)
    if group:
        yield group


class _SampleFinder:
    """Finds the samples of a policy in a pool: by shard and index if the pool has the same shard, else by uid."""

    def __init__(self, pool: Pool, policy: Policy) -> None:
        self.pool, self.policy = pool, policy
        self._ordinals = {name: ordinal for ordinal, name in enumerate(pool.blocks.names())}
        self._matching: dict[int, int | None] = {}  # number in the policy -> ordinal in the pool
        self._places: dict[str, int] | None = None

    def rows(self, recorded: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.tensor([self._row(row) for row in recorded.tolist()])

    def _row(self, recorded: int) -> int:
        number, own = split(recorded)
        if number not in self._matching:
            self._matching[number] = self._same_shard(number)
        ordinal = self._matching[number]
        if ordinal is not None:
            return int(joined(ordinal, own))
        uid = self.policy.uids(number)[own]
        if self.pool.blocks.room is not None:
            text = f"shard {self.policy.shards[number].name} of the data policy has changed or is missing"
            why = "and its samples can't be searched in a pool that exceeds memory"
            raise UserError(f"{text}, {why}", fix="replay on the same data, or raise `memory`")
        if self._places is None:
            self._places = self.pool.places()
        if uid not in self._places:
            raise UserError(f"sample {uid} of the data policy is not in this pool", fix="replay on the same data")
        return self._places[uid]

    def _same_shard(self, number: int) -> int | None:
        """Return the ordinal of the pool's shard with the same name and uids; None if the pool has none."""
        ordinal = self._ordinals.get(self.policy.shards[number].name)
        if ordinal is None:
            return None
        uids = [uid.decode() for uid in self.pool.blocks.block(ordinal).uids]
        return ordinal if uids == self.policy.uids(number) else None
