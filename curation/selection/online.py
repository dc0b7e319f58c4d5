"""Online selection in one process: the definition. The distributed loop equals it, bit for bit
(`curation.selection.feed`).

    X ~ Uniform(D), |X| = B                     candidates: the super-batch
    s = selector(online(X), reference(X))       scores of the candidates
    Y ~ b of X by s                             the sub-batch
    learner <- step on Y;  online <- step on Y

The filtering ratio is 1 - b / B. The online model is small and stands in for the learner in the scores. If it *is* the
learner, this is RHO-LOSS and costs the learner's own forward passes. The reference is trained beforehand, or beside the
learner on a pool of its own, or it is a column of the score tables, which costs nothing here.
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
    """A model that scores candidates: a learner, a frozen reference, or a column of scores."""

    def outputs(self, candidates: SuperBatch) -> Outputs:
        """Return the outputs for B candidates."""
        ...

    def fingerprint(self) -> str:
        """Return the sha256 of the current weights, or the fingerprint of a column of scores."""
        ...


class OnlineLearner(Model, Protocol[Report]):
    """A model that learns."""

    @property
    def steps(self) -> int:
        """The number of updates."""
        ...

    def step(self, batch: Any) -> Report:
        """Make an update."""
        ...


@dataclass(frozen=True)
class TableScores:
    """A reference from the score tables: its losses come with the candidates. `column` is its fingerprint."""

    column: str = "scores"

    def outputs(self, candidates: SuperBatch) -> Losses:
        if candidates.losses is None:
            raise ValueError(f"the candidates have no scores {self.column}")
        return Losses(candidates.losses)

    def fingerprint(self) -> str:
        return self.column


@dataclass(frozen=True, kw_only=True)
class Roles(Generic[Report]):
    """The models of a run. `online` may be the learner itself; a reference that learns has a pool of its own."""

    learner: OnlineLearner[Report]
    online: OnlineLearner[Any] | None = None
    reference: Model | None = None
    reference_pool: Pool | None = None

    def of(self, role: Role) -> Model:
        """Return the model of a role. Raises `ValueError` if there is none."""
        model = self.online if role == "online" else self.reference
        if model is None:
            raise ValueError(f"the selector needs the {role} model, and there is none")
        return model


class StepInfo(NamedTuple):
    """A step of a run: its number, from 0, of `steps`; the samples of its sub-batch; the run's seed."""

    number: int
    steps: int
    batch: int
    seed: int


class Choice(NamedTuple):
    """The choice of one step's sub-batch. `scores` is None where nothing was scored."""

    number: int
    candidates: Tensor  # rows of the pool, int64 [B]
    scores: Tensor | None  # float32 [B]
    chosen: Tensor  # positions among the candidates, int64 [b]
    lag: int = 0  # updates by which the choosing models are older than the learner of this step
    models: Mapping[str, str] = {}  # role -> fingerprint of the choosing model

    @property
    def rows(self) -> Tensor:
        """The rows of the pool in the sub-batch, int64 `[b]`."""
        return self.candidates[self.chosen]


class OnlineStep(NamedTuple):
    """A finished step: its choice and the reports of its updates."""

    choice: Choice
    report: Any
    online_report: Any
    proxies: bool = True  # whether online model and reference also made an update
    reference_report: Any = None  # of a reference that learns beside the learner

    @property
    def number(self) -> int:
        """The number of the step, from 0."""
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
    """Train until the learner has made `steps` updates on sub-batches of `batch` samples; yield after each.

    pending: choices that are not trained on yet, at most `selection.lag`. Pass the deque of a stopped run to resume it.
    Raises `UserError` for scores that aren't finite, and for super-batches that don't fit into a window of the pool.
    Source: 2312.05328, algorithm 1.
    """
    pending = deque() if pending is None else pending
    while (done := roles.learner.steps) < steps:
        while (number := done + len(pending)) < steps and selection.version(number) <= done:
            rows = pool.draw_rows(selection.candidates(batch, number / steps))
            at = StepInfo(number, steps, batch, seed)
            pending.append(choose(roles, pool, selection, rows, at, version=done))
        yield train_on(roles, pool, selection, pending.popleft(), StepInfo(done, steps, batch, seed))


def choose(
    roles: Roles[Any], pool: Pool, selection: SelectionSettings, rows: Tensor, at: StepInfo, *, version: int
) -> Choice:
    """Choose the sub-batch of a step with the current models, which have made `version` updates.

    rows: of B candidates; all are chosen where B is at most the batch, or the selector needs no model. The samples of
    unscored candidates are not read.
    Raises `UserError` for scores that aren't finite.
    """
    progress, wanted = at.number / at.steps, selection.selector.roles()
    if len(rows) <= at.batch or not wanted:
        return Choice(at.number, rows, None, torch.arange(len(rows)))
    candidates = pool.rows(rows)
    outputs = {role: roles.of(role).outputs(candidates) for role in sorted(wanted)}
    scores = selection.selector.scores(outputs, progress).float().cpu()
    if broken := int((~scores.isfinite()).sum()):  # sorted, they would rank highest
        text = f"{broken:,} of {len(rows):,} scores are not finite at step {at.number + 1}"
        raise UserError(text, fix="check the weights of the reference and the online model, or lower the learning rate")
    chosen = selection.selector.select(outputs, at.batch, progress, generator_of(at.seed, "select", at.number))
    lag = at.number - version if learning_models(roles, selection) else 0
    return Choice(at.number, rows, scores, chosen, lag, {role: roles.of(role).fingerprint() for role in wanted})


def train_on(roles: Roles[Any], pool: Pool, selection: SelectionSettings, choice: Choice, at: StepInfo) -> OnlineStep:
    """Make one update of the learner, and of the small models while any later step is chosen by them."""
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


def learning_models(roles: Roles[Any], selection: SelectionSettings) -> dict[Role, Model]:
    """Return the models that the selector needs and that learn: with a lag, it sees older versions of these."""
    wanted = selection.selector.roles()
    return {
        role: roles.of(role)
        for role in sorted(wanted)
        if role == "online" or (role == "reference" and roles.reference_pool is not None)
    }
