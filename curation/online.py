"""Online selection in one process: the definition. Everything distributed has to equal this at lag 0.

    X ~ Uniform(D), |X| = B                     candidates: the super-batch
    s = what the online model and the reference say of X, and the selector makes of it
    Y ~ b of X by s                             the sub-batch
    learner <- step on Y;  online <- step on Y

The filtering ratio is 1 - b / B. The online model is small, and stands in for the learner in the scores; where it *is*
the learner, this is RHO-LOSS, and pays with the learner's own forward passes. The reference is trained beforehand, or
beside the learner on a pool of its own, or is a column of the score tables, which costs nothing here.
Source: 2312.05328, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from curation.outputs import Losses, Outputs
from curation.pool import Pool, SuperBatch, generator_of
from curation.selectors import Role, Selector
from curation.selectors.draw import Schedule, at
from curation.selectors.uniform import Uniform

Report = TypeVar("Report", covariant=True)


class Model(Protocol):
    """Whoever has something to say of candidates: a learner, a frozen reference, a column of scores."""

    def outputs(self, candidates: SuperBatch) -> Outputs: ...


class Learner(Model, Protocol[Report]):
    """A model that learns. `steps` counts its updates."""

    @property
    def steps(self) -> int: ...

    def step(self, batch: Any) -> Report: ...


@dataclass(frozen=True)
class Scored:
    """A model whose losses are known already, of every row of the pool: a reference from the score tables."""

    values: Tensor

    def outputs(self, candidates: SuperBatch) -> Losses:
        return Losses(self.values[candidates.rows])


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How sub-batches are chosen, and for how long: from `stop` (share of the run) on, training is uniform."""

    selector: Selector = field(default_factory=Uniform)
    filtering_ratio: Schedule = 0.5
    stop: float = 1.0

    def candidates(self, size: int, progress: float) -> int:
        """B, for a sub-batch of `size` at this point of the run."""
        if not self.selector.roles() or progress >= self.stop:
            return size
        ratio = at(self.filtering_ratio, progress)
        if not 0 <= ratio < 1:
            raise ValueError(f"the filtering ratio is {ratio}: it is at least 0 and less than 1")
        return round(size / (1 - ratio))


@dataclass(frozen=True, kw_only=True)
class Roles(Generic[Report]):
    """Who takes part. `online` may be the learner itself; a reference that learns has a pool of its own."""

    learner: Learner[Report]
    online: Learner[Any] | None = None
    reference: Model | None = None
    reference_pool: Pool | None = None

    def of(self, role: Role) -> Model:
        model = self.online if role == "online" else self.reference
        if model is None:
            raise ValueError(f"the selector looks at the {role} model, and there is none")
        return model


class OnlineStep(NamedTuple):
    """What one step did. `scores` is None where nothing was scored; `chosen` are rows of the super-batch."""

    number: int
    candidates: Tensor  # rows of the pool, [B]
    scores: Tensor | None  # [B]
    chosen: Tensor  # [b]
    report: Any
    online_report: Any


def online_selection(
    roles: Roles[Any], pool: Pool, selection: Selection, *, steps: int, batch: int, seed: int = 0
) -> Iterator[OnlineStep]:
    """Train until the learner has made `steps` updates on sub-batches of `batch`; yields after every one."""
    while roles.learner.steps < steps:
        number = roles.learner.steps
        progress = number / steps
        candidates = pool.draw(selection.candidates(batch, progress))
        outputs = outputs_of(roles, selection, candidates, batch)
        scores, chosen = choose(selection, outputs, len(candidates.rows), batch, progress, seed, number)
        sub_batch = candidates.take(chosen).batch
        report = roles.learner.step(sub_batch)
        online_report = None
        if roles.online is not None and roles.online is not roles.learner:
            online_report = roles.online.step(sub_batch)
        if roles.reference_pool is not None:
            roles.reference.step(roles.reference_pool.draw(batch).batch)  # type: ignore[union-attr]
        yield OnlineStep(number, candidates.rows, scores, chosen, report, online_report)


def outputs_of(roles: Roles[Any], selection: Selection, candidates: SuperBatch, batch: int) -> dict[Role, Outputs]:
    """What the models that the selector looks at say of the candidates; nothing where there is nothing to choose."""
    if len(candidates.rows) <= batch:
        return {}
    return {role: roles.of(role).outputs(candidates) for role in sorted(selection.selector.roles())}


def choose(
    selection: Selection,
    outputs: Mapping[Role, Outputs],
    count: int,
    batch: int,
    progress: float,
    seed: int,
    number: int,
) -> tuple[Tensor | None, Tensor]:
    """Scores and chosen rows of `count` candidates in step `number`: a pure function of its arguments."""
    if not outputs:
        return None, torch.arange(count)
    scores = selection.selector.scores(outputs, progress)
    return scores, selection.selector.select(outputs, batch, progress, generator_of(seed, "select", number))
