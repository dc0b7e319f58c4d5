"""The room of selectors: super-batch with the models' outputs -> the sub-batch that the learner trains on.

A selector is a frozen dataclass whose fields are its configuration in the recipe. It is a pure function of the outputs,
the progress of the run and a seeded generator, so any process that has these chooses the same samples. To add one:
write a file beside these and name it in `SELECTORS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from curation.models.model_outputs import Outputs
from curation.selectors.blend import Blend, EasyReference, HardLearner, Learnability
from curation.selectors.joint import Joint
from curation.selectors.replay import Replay
from curation.selectors.uniform import Shuffled, Uniform

Role = Literal["online", "reference"]


@runtime_checkable
class Selector(Protocol):
    """What online selection needs of a selector."""

    def roles(self) -> frozenset[Role]:
        """Whose outputs it looks at: `online`, `reference`. Only these models are run."""
        ...

    def scores(self, outputs: Mapping[Role, Outputs], progress: float) -> Tensor:
        """float32 `[B]`: what is recorded of every candidate; higher is chosen rather."""
        ...

    def select(self, outputs: Mapping[Role, Outputs], size: int, progress: float, generator: torch.Generator) -> Tensor:
        """int64 `[size]`: different rows of the super-batch, ascending. `progress`: share of the run that is done."""
        ...


#: name in the recipe -> dataclass. The recipe's schema, the help and the contract test come from this table.
SELECTORS: dict[str, type[Selector]] = {
    "blend": Blend,
    "easy_reference": EasyReference,
    "hard_learner": HardLearner,
    "joint": Joint,
    "learnability": Learnability,
    "replay": Replay,
    "shuffled": Shuffled,
    "uniform": Uniform,
}

__all__ = [
    "SELECTORS",
    "Role",
    "Selector",
    "blend",
    "draw",
    "joint",
    "replay",
    "selection",
    "uniform",
]
