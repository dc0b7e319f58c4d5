"""The protocol of a selector: the models it needs, their scores, and the choice of a sub-batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from curation.models.model_outputs import Outputs

Role = Literal["online", "reference"]


@runtime_checkable
class Selector(Protocol):
    """A pure function of the models' outputs, the progress of the run and a seeded generator.

    Any process that has these three chooses the same samples. A class that derives from this one inherits the answers
    of `needs_pairs` and `replayed_run`, which hold for most selectors.
    """

    def roles(self) -> frozenset[Role]:
        """Return the models whose outputs it needs. Only these are run; without any, no candidate is scored."""
        ...

    def needs_pairs(self) -> bool:
        """Return whether it compares every candidate's picture with the captions of the others.

        Then it needs the vectors of a dual encoder: a classifier's losses or a column of scores are not enough.
        """
        return False

    def replayed_run(self) -> str | None:
        """Return the URL of the run whose recorded choices it repeats; None if it makes its own choices."""
        return None

    def scores(self, outputs: Mapping[Role, Outputs], progress: float) -> Tensor:
        """Return the score that is recorded of every candidate, float32 `[B]`. Higher scores are preferred.

        outputs: of each role, for the same B candidates. progress: share of the run that is done, from 0 to 1.
        """
        ...

    def select(self, outputs: Mapping[Role, Outputs], size: int, progress: float, generator: torch.Generator) -> Tensor:
        """Return `size` different rows of the super-batch, int64 `[size]`, ascending.

        generator: seeded for this step, on the CPU. Raises `ValueError` for a `size` above B.
        """
        ...
