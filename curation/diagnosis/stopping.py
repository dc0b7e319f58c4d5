"""Early stopping of a repair: the best weights by validation failures, among those that keep every class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from curation.diagnosis.pictures import LabelledPictures
from curation.diagnosis.tuning import TunedClassifier

PATIENCE = 6  # checks without an improvement


class Check(NamedTuple):
    """What a check found: the share of validation failures that are right, and the share kept (see `EarlyStopping`)."""

    step: int
    fixed: float
    kept: float


class EarlyStopping:
    """Judge a classifier while it is tuned (`tuning.tune`), and hold the weights that were best.

    validation: failures with the expected answers. kept: samples that the model was right about. least: the share of
    them that must stay right, of each class where `each`; weights that keep less are never chosen. The best weights fix
    the most validation failures, then keep the most. Tuning ends once the share `enough` of the validation failures is
    right, or after `patience` checks without better weights. average: decay of a moving average of the weights; the
    average is what is judged and held, since single steps of a few samples swing from class to class (0: no average).
    Cost: a forward pass over both sets a check.
    """

    def __init__(
        self, classifier: TunedClassifier, validation: LabelledPictures, kept: LabelledPictures, *, least: float,
        each: bool = False, enough: float = 1.0, patience: int = PATIENCE, average: float = 0.0,
    ) -> None:  # fmt: skip
        self._classifier, self._validation, self._kept = classifier, validation, kept
        self._share: Callable[[Tensor, LabelledPictures], float] = least_kept if each else share_kept
        self._least, self._enough, self._patience, self._since = least, enough, patience, 0
        self._decay, self._average = average, classifier.weights() if average else {}
        self.checks: list[Check] = []
        self.best: tuple[Check, dict[str, Tensor]] | None = None

    @property
    def judged(self) -> int:
        """The number of pictures that were judged, a forward pass each."""
        return len(self.checks) * (len(self._validation) + len(self._kept))

    def follow(self) -> None:
        """Take the weights after a step into the average."""
        if self._average:
            now = self._classifier.weights()
            for name, tensor in self._average.items():
                new = now[name]
                tensor.lerp_(new, 1 - self._decay) if tensor.is_floating_point() else tensor.copy_(new)

    def __call__(self, done: int) -> bool:
        """Check the weights after `done` steps; whether tuning ends."""
        module, now = self._classifier.module, self._classifier.weights()
        if self._average:
            module.load_state_dict(self._average)
        fixed = float(self._classifier.right(self._validation).double().mean())
        check = Check(done, fixed, self._share(self._classifier.right(self._kept), self._kept))
        self.checks.append(check)
        self._since += 1
        good = check.kept >= self._least
        if self.best is None or (good and (check.fixed, check.kept) > (self.best[0].fixed, self.best[0].kept)):
            self.best, self._since = (check, self._classifier.weights()), 0
        module.load_state_dict(now)
        return (good and fixed >= self._enough) or self._since >= self._patience

    def restore(self) -> Check:
        """Put the best weights back, and return their check. Called at least once before."""
        assert self.best is not None
        check, weights = self.best
        self._classifier.module.load_state_dict(weights)
        return check


def share_kept(right: Tensor, pictures: LabelledPictures) -> float:
    """Return the share of right pictures; 1 without pictures."""
    return float(right.double().mean()) if len(right) else 1.0


def least_kept(right: Tensor, pictures: LabelledPictures) -> float:
    """Return the least share of right pictures among the classes; 1 without pictures."""
    shares = [
        float(right[pictures.targets == number].double().mean()) for number in sorted(set(pictures.targets.tolist()))
    ]
    return min(shares, default=1.0)


def balanced(pictures: LabelledPictures, most: int) -> LabelledPictures:
    """Return at most `most` pictures, as evenly from all classes as there are, in the order of their uids.

    The first of a class are taken, so a draw by hash stays one.
    """
    rows = _ranked_by_class(pictures.targets)[:most]
    return pictures.take(sorted(rows))


def _ranked_by_class(targets: Tensor) -> Sequence[int]:
    ranks: dict[int, int] = {}
    order = []
    for row, target in enumerate(targets.tolist()):
        ranks[target] = ranks.get(target, -1) + 1
        order.append((ranks[target], target, row))
    return [row for *_, row in sorted(order)]
