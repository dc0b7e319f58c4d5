"""The ledger of compute: the FLOPs of every role of a run, in three accountings, and whether selection has paid.

Torch counts the FLOPs of a forward pass (`curation.models.cost`), once a model and length of captions; an update costs
three (forward, and twice as much backward). Captions are charged at the length to which their batch is trimmed. Per
sample of a sub-batch, with F the FLOPs of a forward pass and rho = B / b:

    learning     3 F_learner
    scoring      rho (F_online + F_reference)      0 for a reference from the score tables; plus 2 D B for each model
                                                   whose losses compare pairs among all candidates
    online       3 F_online                        0 if the learner is its own online model
    reference    its whole training, even if earlier; for a replay, the cost of the choices
    repeated     choices and updates that were repeated because an actor or the learners died. A dead actor is charged
                 a whole choice. 0 in one process, and after the death of a whole cluster, which loses the count

The accountings are cumulative: `scoring` is the paper's formula without its last term, `online` adds the updates that
the formula leaves out, and `full` adds everything else. All include repeated work.
Source: 2312.05328, section 4 and equation 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from curation.selection.online import OnlineStep, Roles

BACKWARD = 2  # cost of a backward pass in forward passes: gradients of activations, and of weights

ACCOUNTINGS = ("scoring", "online", "full")
_UNITS = (("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6))


def unit_of(flops: float) -> tuple[str, float]:
    """Return the unit in which to report so many FLOPs, and its size in FLOPs."""
    return next((unit for unit in _UNITS if flops >= unit[1]), _UNITS[-1])


@dataclass(frozen=True, kw_only=True)
class Prices:
    """FLOPs of a forward pass over one sample, by role, and of the reference's whole training beforehand.

    `..._scoring`: if candidates are scored at another size than samples are trained at (Flexi-JEST). `..._pairs`: of
    comparing one candidate with one other, if the selector needs that.
    """

    learner: float
    online: float = 0.0
    reference: float = 0.0
    reference_training: float = 0.0
    learner_passes: float = 3.0  # forward passes of an update: 4 if the learner encodes twice (GradCache)
    online_scoring: float | None = None
    reference_scoring: float | None = None
    online_pairs: float = 0.0
    reference_pairs: float = 0.0
    # By role: length of a caption in tokens -> FLOPs saved against the full context, which the prices above assume.
    trimmed: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    def scoring(self, role: str) -> float:
        """Return the FLOPs of scoring one candidate with the online model or the reference."""
        own: float | None = getattr(self, f"{role}_scoring")
        training: float = getattr(self, role)
        return training if own is None else own

    def pairs(self, role: str) -> float:
        """Return the FLOPs of comparing one candidate with one other."""
        found: float = getattr(self, f"{role}_pairs")
        return found


class Repeated(NamedTuple):
    """Work repeated after deaths: scored candidates, and updates of learner and online model."""

    candidates: int = 0
    updates: int = 0


@dataclass
class ComputeLedger:
    """The samples of each role, and their FLOPs."""

    prices: Prices
    updates: int = 0
    trained: int = 0  # samples, by the learner
    online_trained: int = 0
    reference_trained: int = 0  # beside the learner; its training beforehand is in the prices
    scored: dict[str, int] = field(default_factory=lambda: {"online": 0, "reference": 0})
    compared: dict[str, int] = field(default_factory=lambda: {"online": 0, "reference": 0})  # pairs of candidates
    # `learner`, `online`, `reference` in training, `online_scoring`, `reference_scoring` -> length -> captions. Ledgers
    # of earlier versions have none: their captions are charged at the full context.
    texts: dict[str, dict[int, int]] = field(default_factory=dict)
    repeated: Repeated = field(default_factory=lambda: Repeated())

    def __post_init__(self) -> None:
        """Convert values from JSON: lengths as text, and `repeated` as a list or an object."""
        self.texts = {kind: {int(length): n for length, n in found.items()} for kind, found in self.texts.items()}
        self.repeated = Repeated(*self.repeated)

    def add(
        self, step: OnlineStep, roles: Roles[Any], scoring: frozenset[str],
        texts: Mapping[str, Mapping[int, int]] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """Charge one step.

        scoring: the roles whose models scored its candidates: the selector's, without a reference that is a column.
        texts: the lengths of its captions; without them captions are charged at the full context.
        """
        for kind, lengths in texts.items():
            counts = self.texts.setdefault(kind, {})
            for length, captions in lengths.items():
                counts[length] = counts.get(length, 0) + captions
        choice, size = step.choice, len(step.choice.chosen)
        self.updates += 1
        self.trained += size
        if choice.scores is not None:
            for role in scoring:
                self.scored[role] += len(choice.candidates)
                self.compared[role] += len(choice.candidates) ** 2
        if step.proxies and roles.online is not None and roles.online is not roles.learner:
            self.online_trained += size
        if step.proxies and roles.reference_pool is not None:
            self.reference_trained += size

    def parts(self) -> dict[str, float]:
        """Return the FLOPs of learning, of scoring, of the online model's updates and of the reference's training."""
        prices, update, less = self.prices, 1 + BACKWARD, self._trimmed
        return {
            "learning": prices.learner_passes * (prices.learner * self.trained - less("learner", "learner")),
            "scoring": sum(
                prices.scoring(role) * samples - less(role, f"{role}_scoring") for role, samples in self.scored.items()
            )
            + sum(prices.pairs(role) * pairs for role, pairs in self.compared.items()),
            "online": update * (prices.online * self.online_trained - less("online", "online")),
            "reference": prices.reference_training
            + update * (prices.reference * self.reference_trained - less("reference", "reference")),
        } | ({"repeated": self._repeated()} if any(self.repeated) else {})

    def _trimmed(self, role: str, kind: str) -> float:
        """Return the FLOPs that captions of a kind save against the full context."""
        known = self.prices.trimmed.get(role, {})
        return sum(known.get(length, 0.0) * captions for length, captions in self.texts.get(kind, {}).items())

    def _repeated(self) -> float:
        """Return the FLOPs of repeated work, at the average cost of updates and candidates so far."""
        whole = ComputeLedger(self.prices, self.updates, self.trained, self.online_trained, self.reference_trained,
                              self.scored, self.compared, self.texts).parts()  # fmt: skip
        updates = whole["learning"] + whole["online"] + whole["reference"] - self.prices.reference_training
        most = max(self.scored.values(), default=0)
        candidates = self.repeated.candidates * whole["scoring"] / most if most else 0.0
        return candidates + (self.repeated.updates * updates / self.updates if self.updates else 0.0)

    def totals(self) -> dict[str, float]:
        """Return the FLOPs under each of the `ACCOUNTINGS`."""
        parts = self.parts()
        scoring = parts["learning"] + parts["scoring"] + parts.get("repeated", 0.0)
        return {
            "scoring": scoring,
            "online": scoring + parts["online"],
            "full": scoring + parts["online"] + parts["reference"],
        }


class Point(NamedTuple):
    """One evaluation of a run: quality after some updates, and FLOPs by accounting."""

    updates: int
    quality: float
    totals: dict[str, float]


@dataclass(frozen=True)
class Payoff:
    """A run against a uniform one: the updates and compute to reach the uniform run's final quality, `target`.

    Savings are shares (0.25: a quarter less; negative: more). A run that never reaches the target has none.
    """

    target: float
    updates: int | None
    updates_saved: float | None
    compute_saved: dict[str, float] | None  # by accounting

    @property
    def compute_positive(self) -> bool:
        """Whether the run was cheaper under the accounting `full`."""
        return self.compute_saved is not None and self.compute_saved["full"] > 0


def payoff(run: Sequence[Point], uniform: Sequence[Point]) -> Payoff:
    """Return what selection saved. Curves are interpolated linearly between evaluations.

    run, uniform: learning curves. The uniform run is charged until it first reaches its own final quality.
    """
    target = uniform[-1].quality
    ours, theirs = _reaching(run, target), _reaching(uniform, target)
    assert theirs is not None, "a run reaches its own end"
    if ours is None:
        return Payoff(target, None, None, None)
    saved = {name: 1 - ours.totals[name] / theirs.totals[name] for name in ACCOUNTINGS}
    return Payoff(target, ours.updates, 1 - ours.updates / theirs.updates, saved)


def _reaching(run: Sequence[Point], target: float) -> Point | None:
    """Return the point at which a curve first reaches the target quality; None if it never does."""
    before: Point | None = None
    for point in run:
        if point.quality >= target:
            return _between(before, point, target) if before is not None else point
        before = point
    return None


def _between(low: Point, high: Point, target: float) -> Point:
    share = (target - low.quality) / (high.quality - low.quality)

    def mixed() -> Iterator[tuple[str, float]]:
        for name in high.totals:
            yield name, low.totals[name] + share * (high.totals[name] - low.totals[name])

    return Point(round(low.updates + share * (high.updates - low.updates)), target, dict(mixed()))
