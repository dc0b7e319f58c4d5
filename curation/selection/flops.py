"""The ledger of compute: what every role of a run has cost, in three accountings, and whether selection paid.

A forward pass is counted by torch (`curation.models.cost`), once a model and length of captions; an update is three
(forward, and twice as much backward). Captions are priced at the length to which their batch is trimmed, as they are
computed. Per sample of a sub-batch, with F the FLOPs of a forward pass and rho = B / b:

    learning     3 F_learner
    scoring      rho (F_online + F_reference)      0 for a reference from the score tables; where losses are those of
                                                   pairs among all candidates, and 2 D B for each of these models
    online       3 F_online                        0 where the learner is its own online model
    reference    its training, all of it, whenever it was; of a replay, all that the choosing has cost
    repeated     what was computed and lost when an actor or the learners died: choices that were made again, updates
                 that were made again from a checkpoint. Of an actor that died, a whole choice. 0 in one process, and
                 after the death of a whole cluster, of which nothing is left that could count

The accountings add these up one by one: `scoring` is the marginal one of the paper's formula without its last term,
`online` adds the updates that the formula leaves out, `full` everything; what is repeated is in all.
Source: 2312.05328, section 4 and equation 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from curation.selection.online import OnlineStep, Roles

BACKWARD = 2  # forward passes that a backward pass costs: gradients of activations, and of weights

ACCOUNTINGS = ("scoring", "online", "full")
_UNITS = (("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6))


def unit_of(flops: float) -> tuple[str, float]:
    """The unit in which so many FLOPs are told to a person, and its FLOPs."""
    return next((unit for unit in _UNITS if flops >= unit[1]), _UNITS[-1])


@dataclass(frozen=True, kw_only=True)
class Prices:
    """FLOPs of a forward pass over one sample, by role, and of the reference's training beforehand in all.

    `..._scoring`: where candidates are looked at in another size than samples are trained on (Flexi-JEST). `..._pairs`:
    of comparing one candidate with one other, where the selector looks at that.
    """

    learner: float
    online: float = 0.0
    reference: float = 0.0
    reference_training: float = 0.0
    learner_passes: float = 3.0  # forward passes an update costs the learner: 4 where it encodes twice (GradCache)
    online_scoring: float | None = None
    reference_scoring: float | None = None
    online_pairs: float = 0.0
    reference_pairs: float = 0.0
    # By role: length of a caption in tokens -> FLOPs less than at the full context, at which the prices above have it.
    trimmed: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    def scoring(self, role: str) -> float:
        """Of one candidate, by the online model or the reference."""
        own: float | None = getattr(self, f"{role}_scoring")
        training: float = getattr(self, role)
        return training if own is None else own

    def pairs(self, role: str) -> float:
        """Of one candidate compared with one, by the online model or the reference."""
        found: float = getattr(self, f"{role}_pairs")
        return found


class Repeated(NamedTuple):
    """Work repeated after deaths: candidates scored again, and updates of learner and online model made again."""

    candidates: int = 0
    updates: int = 0


@dataclass
class ComputeLedger:
    """Samples that each role has seen, and what that comes to."""

    prices: Prices
    updates: int = 0
    trained: int = 0  # samples, by the learner
    online_trained: int = 0
    reference_trained: int = 0  # beside the learner; beforehand is in the prices
    scored: dict[str, int] = field(default_factory=lambda: {"online": 0, "reference": 0})
    compared: dict[str, int] = field(default_factory=lambda: {"online": 0, "reference": 0})  # candidates with each
    # `learner`, `online`, `reference` in training, `online_scoring`, `reference_scoring` -> length -> captions. Ledgers
    # of earlier versions have none: their captions are priced at the full context.
    texts: dict[str, dict[int, int]] = field(default_factory=dict)
    repeated: Repeated = field(default_factory=lambda: Repeated())

    def __post_init__(self) -> None:
        """From JSON lengths come as text, and what is repeated as an object."""
        self.texts = {kind: {int(length): n for length, n in found.items()} for kind, found in self.texts.items()}
        self.repeated = Repeated(*self.repeated)

    def add(
        self, step: OnlineStep, roles: Roles[Any], scoring: frozenset[str],
        texts: Mapping[str, Mapping[int, int]] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """Charge one step.

        `scoring`: the roles whose models were run on its candidates (the selector's roles, without a reference that is
        read from the score tables). `texts`: the lengths of its captions; without them they have the full one.
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
        """FLOPs of learning, scoring, the online model's updates and the reference's training, each by itself."""
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
        """FLOPs that captions of a kind cost less than at the full context."""
        known = self.prices.trimmed.get(role, {})
        return sum(known.get(length, 0.0) * captions for length, captions in self.texts.get(kind, {}).items())

    def _repeated(self) -> float:
        """What was lost, at what such updates and such candidates have cost so far on average."""
        whole = ComputeLedger(self.prices, self.updates, self.trained, self.online_trained, self.reference_trained,
                              self.scored, self.compared, self.texts).parts()  # fmt: skip
        updates = whole["learning"] + whole["online"] + whole["reference"] - self.prices.reference_training
        most = max(self.scored.values(), default=0)
        candidates = self.repeated.candidates * whole["scoring"] / most if most else 0.0
        return candidates + (self.repeated.updates * updates / self.updates if self.updates else 0.0)

    def totals(self) -> dict[str, float]:
        """FLOPs under each of the `ACCOUNTINGS`."""
        parts = self.parts()
        scoring = parts["learning"] + parts["scoring"] + parts.get("repeated", 0.0)
        return {
            "scoring": scoring,
            "online": scoring + parts["online"],
            "full": scoring + parts["online"] + parts["reference"],
        }


class Point(NamedTuple):
    """One evaluation of a run."""

    updates: int
    quality: float
    totals: dict[str, float]


@dataclass(frozen=True)
class Payoff:
    """A run against a uniform one: what it took to reach the uniform run's final quality.

    Savings are shares (0.25: a quarter less; negative: more). A run that never arrives has none, and did not pay.
    """

    target: float
    updates: int | None
    updates_saved: float | None
    compute_saved: dict[str, float] | None  # by accounting

    @property
    def compute_positive(self) -> bool:
        """Whether the run was cheaper, everything counted."""
        return self.compute_saved is not None and self.compute_saved["full"] > 0


def payoff(run: Sequence[Point], uniform: Sequence[Point]) -> Payoff:
    """What selection saved. Where a curve passes the target between two evaluations, it is drawn as a straight line.

    The uniform run, too, is charged only until it first has its own final quality.
    """
    target = uniform[-1].quality
    ours, theirs = _reaching(run, target), _reaching(uniform, target)
    assert theirs is not None, "a run reaches its own end"
    if ours is None:
        return Payoff(target, None, None, None)
    saved = {name: 1 - ours.totals[name] / theirs.totals[name] for name in ACCOUNTINGS}
    return Payoff(target, ours.updates, 1 - ours.updates / theirs.updates, saved)


def _reaching(run: Sequence[Point], target: float) -> Point | None:
    """The point of a curve at which it first has the target quality; None where it never does."""
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
