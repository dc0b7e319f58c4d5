"""How sub-batches are chosen, and for how long: a selector with its filtering ratio, its end and its lag."""

from __future__ import annotations

from dataclasses import dataclass, field

from curation.core.ranges import check
from curation.selectors import Selector
from curation.selectors.draw import Schedule, at
from curation.selectors.uniform import Uniform


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How sub-batches are chosen, and for how long: from `stop` (share of the run) on, training is uniform.

    `lag`: updates by which the models that choose may be older than those that learn, so that choosing and learning
    go on side by side. `publish_every`: updates between two versions of the models that choose.
    """

    selector: Selector = field(default_factory=Uniform)
    filtering_ratio: Schedule = 0.5
    stop: float = 1.0
    lag: int = 0
    publish_every: int = 1

    def __post_init__(self) -> None:
        check("stop", self.stop, "it is a share of the run, from which on training is uniform", least=0, most=1)
        for progress in (0.0, 1.0):  # the ends of a straight line: what is between is between
            ratio = at(self.filtering_ratio, progress)
            if not 0 <= ratio < 1:
                raise ValueError(f"the filtering ratio is {ratio}: it is at least 0 and less than 1")
        if self.publish_every < 1 or self.lag < self.publish_every - 1:
            text = f"lag {self.lag} with publish_every {self.publish_every}"
            raise ValueError(f"{text}: a lag is at least publish_every - 1, which is at least 0")

    def candidates(self, size: int, progress: float) -> int:
        """B, for a sub-batch of `size` at this point of the run."""
        if not self.selector.roles() or progress >= self.stop:
            return size
        return round(size / (1 - at(self.filtering_ratio, progress)))

    def most(self, size: int) -> int:
        """The largest B of a run: at one of the ends of its straight lines, which a hundredth of the run tells of."""
        return max(self.candidates(size, percent / 100) for percent in range(100))

    def scores(self, number: int, steps: int) -> bool:
        """Whether step `number` of a run of `steps`, or any later one, is chosen by models."""
        return bool(self.selector.roles()) and number / steps < self.stop

    def version(self, number: int) -> int:
        """How many updates the models have had that choose the sub-batch of step `number`.

        A function of the step alone, whoever is fast or slow, so that a run with a lag can be repeated to the bit.
        number - version is at most `lag`, and at least lag - publish_every + 1 once there have been that many updates.
        """
        return max(0, (number - self.lag + self.publish_every - 1) // self.publish_every * self.publish_every)
