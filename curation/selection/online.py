"""Online selection in one process: the definition. Everything distributed equals this, bit for bit
(`curation.selection.feed`).

    X ~ Uniform(D), |X| = B                     candidates: the super-batch
    s = what the online model and the reference say of X, and the selector makes of it
    Y ~ b of X by s                             the sub-batch
    learner <- step on Y;  online <- step on Y

The filtering ratio is 1 - b / B. The online model is small, and stands in for the learner in the scores; where it *is*
the learner, this is RHO-LOSS, and pays with the learner's own forward passes. The reference is trained beforehand, or
beside the learner on a pool of its own, or is a column of the score tables, which costs nothing here.
Source: 2312.05328, algorithm 1. With a lag, Y is chosen some updates before it is trained on
(`SelectionSettings.version`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from curation.core.errors import UserError
from curation.models.batches import SuperBatch
from curation.models.model_outputs import Losses, Outputs
from curation.selection.pool import Pool, generator_of
from curation.selectors import Role
from curation.selectors.selection_settings import SelectionSettings

Report = TypeVar("Report", covariant=True)


class Model(Protocol):
    """Whoever has something to say of candidates: a learner, a frozen reference, a column of scores."""

    def outputs(self, candidates: SuperBatch) -> Outputs: ...

    def fingerprint(self) -> str:
        """sha256 of the weights as they are now, or the name of a column of scores."""
        ...


class OnlineLearner(Model, Protocol[Report]):
    """A model that learns. `steps` counts its updates."""

    @property
    def steps(self) -> int: ...

    def step(self, batch: Any) -> Report: ...


@dataclass(frozen=True)
class TableScores:
    """A model whose losses come with the candidates: a reference from the score tables."""

    column: str = "scores"

    def outputs(self, candidates: SuperBatch) -> Losses:
        if candidates.losses is None:
            raise ValueError(f"the candidates come without {self.column}")
        return Losses(candidates.losses)

    def fingerprint(self) -> str:
        return self.column


@dataclass(frozen=True, kw_only=True)
class Roles(Generic[Report]):
    """Who takes part. `online` may be the learner itself; a reference that learns has a pool of its own."""

    learner: OnlineLearner[Report]
    online: OnlineLearner[Any] | None = None
    reference: Model | None = None
    reference_pool: Pool | None = None

    def of(self, role: Role) -> Model:
        model = self.online if role == "online" else self.reference
        if model is None:
            raise ValueError(f"the selector looks at the {role} model, and there is none")
        return model


class StepInfo(NamedTuple):
    """Which step of a run: its number, of how many, on how many samples, and the run's seed."""

    number: int
    steps: int
    batch: int
    seed: int


class Choice(NamedTuple):
    """What one step is trained on. `scores` is None where nothing was scored; `chosen` are rows of the super-batch."""

    number: int
    candidates: Tensor  # rows of the pool, int64 [B]
    scores: Tensor | None  # float32 [B]
    chosen: Tensor  # int64 [b]
    lag: int = 0  # updates by which the models that chose are older than the learner of this step
    models: Mapping[str, str] = {}  # role -> fingerprint of who chose

    @property
    def rows(self) -> Tensor:
        """Rows of the pool that are trained on, int64 `[b]`."""
        return self.candidates[self.chosen]


class OnlineStep(NamedTuple):
    """What one step did."""

    choice: Choice
    report: Any
    online_report: Any
    proxies: bool = True  # whether the small models that learn have learned too
    reference_report: Any = None  # of one that learns beside the learner

    @property
    def number(self) -> int:
        return self.choice.number


def online_selection(
    roles: Roles[Any],
    pool: Pool,
    selection: SelectionSettings,
    *,
    steps: int,
    batch: int,
    seed: int = 0,
    pending: deque[Choice] | None = None,
) -> Iterator[OnlineStep]:
    """Train until the learner has made `steps` updates on sub-batches of `batch`; yields after every one.

    `pending`: what is chosen and not trained on yet (`lag` of them at most, so nothing without one). Give the deque of
    a stopped run to go on from it.
    """
    pending = deque() if pending is None else pending
    while (done := roles.learner.steps) < steps:
        while (number := done + len(pending)) < steps and selection.version(number) <= done:
            candidates = pool.draw(selection.candidates(batch, number / steps))
            at = StepInfo(number, steps, batch, seed)
            pending.append(choose(roles, selection, candidates, at, version=done))
        yield train_on(roles, pool, selection, pending.popleft(), StepInfo(done, steps, batch, seed))


def choose(
    roles: Roles[Any], selection: SelectionSettings, candidates: SuperBatch, at: StepInfo, *, version: int
) -> Choice:
    """The sub-batch of a step, by the models as they are now: after `version` updates."""
    rows, progress, wanted = candidates.rows, at.number / at.steps, selection.selector.roles()
    if len(rows) <= at.batch or not wanted:
        return Choice(at.number, rows, None, torch.arange(len(rows)))
    outputs = {role: roles.of(role).outputs(candidates) for role in sorted(wanted)}
    scores = selection.selector.scores(outputs, progress).float().cpu()
    if broken := int((~scores.isfinite()).sum()):  # sorted, they would be the best
        text = f"{broken:,} of {len(rows):,} scores are not finite at step {at.number + 1}"
        raise UserError(text, fix="look at the weights of reference and online model, or lower the learning rate")
    chosen = selection.selector.select(outputs, at.batch, progress, generator_of(at.seed, "select", at.number))
    lag = at.number - version if moving(roles, selection) else 0
    return Choice(at.number, rows, scores, chosen, lag, {role: roles.of(role).fingerprint() for role in wanted})


def train_on(roles: Roles[Any], pool: Pool, selection: SelectionSettings, choice: Choice, at: StepInfo) -> OnlineStep:
    """One update of the learner, and of the small models as long as somebody will be chosen by them."""
    sub_batch = pool.rows(choice.rows).batch
    report = roles.learner.step(sub_batch)
    online_report = None
    if not selection.scores(at.number, at.steps):
        return OnlineStep(choice, report, None, proxies=False)
    if roles.online is not None and roles.online is not roles.learner:
        online_report = roles.online.step(sub_batch)
    reference_report = None
    if roles.reference_pool is not None:
        reference_report = roles.reference.step(roles.reference_pool.draw(at.batch).batch)  # type: ignore[union-attr]
    return OnlineStep(choice, report, online_report, reference_report=reference_report)


def moving(roles: Roles[Any], selection: SelectionSettings) -> dict[Role, Model]:
    """The models that the selector looks at and that learn: those of which it may see an older version."""
    wanted = selection.selector.roles()
    return {
        role: roles.of(role)
        for role in sorted(wanted)
        if role == "online" or (role == "reference" and roles.reference_pool is not None)
    }
