"""The settings of a run's selection: a selector with its filtering ratio, its last step and its lag."""

from __future__ import annotations

from dataclasses import dataclass, field

from curation.core.ranges import check
from curation.selectors.schedule import Schedule, value_at
from curation.selectors.selector import Selector
from curation.selectors.uniform import Uniform


@dataclass(frozen=True, kw_only=True)
class SelectionSettings:
    """A selector and its settings over a run.

    selector: chooses b of B candidates. filtering_ratio: 1 - b / B, at least 0 and less than 1.
    stop: share of the run from which on training is uniform.
    lag: updates by which the choosing models may be older than the learner, so that choosing and learning overlap.
    publish_every: updates between two versions of the choosing models.
    Raises `ValueError`, which names the field, for a value outside of its range.
    """

    selector: Selector = field(default_factory=Uniform)
    filtering_ratio: Schedule = 0.5
    stop: float = 1.0
    lag: int = 0
    publish_every: int = 1

    def __post_init__(self) -> None:
        check("stop", self.stop, "it is a share of the run, from which on training is uniform", least=0, most=1)
        for progress in (0.0, 1.0):  # the ends of a straight line: all other values lie between them
            ratio = value_at(self.filtering_ratio, progress)
            if not 0 <= ratio < 1:
                raise ValueError(f"the filtering ratio is {ratio}: it is at least 0 and less than 1")
        if self.publish_every < 1 or self.lag < self.publish_every - 1:
            text = f"lag {self.lag} with publish_every {self.publish_every}"
            raise ValueError(f"{text}: a lag is at least publish_every - 1, which is at least 0")

    def candidates(self, size: int, progress: float) -> int:
        """Return B, the candidates of a sub-batch of `size` samples, at `progress`, a share of the run."""
        if not self.selector.roles() or progress >= self.stop:
            return size
        return round(size / (1 - value_at(self.filtering_ratio, progress)))

    def largest_super_batch(self, size: int) -> int:
        """Return the largest B of a run with sub-batches of `size` samples.

        The filtering ratio is piecewise linear, so B is largest at the end of a line. Percent by percent of the run is
        close enough: the largest B is only compared with the room of a window.
        """
        return max(self.candidates(size, percent / 100) for percent in range(100))

    def scores(self, number: int, steps: int) -> bool:
        """Return whether models choose the sub-batch of step `number`, from 0, of `steps`, or of any later step."""
        return bool(self.selector.roles()) and number / steps < self.stop

    def version(self, number: int) -> int:
        """Return the version of the models that choose the sub-batch of step `number`, from 0: their updates so far.

        It depends on the step alone and not on the speed of any process, so a run with a lag is reproducible bit for
        bit. `number - version` is at most `lag`; once the run is `lag` updates old, it is at least
        `lag - publish_every + 1`.
        """
        return max(0, (number - self.lag + self.publish_every - 1) // self.publish_every * self.publish_every)
