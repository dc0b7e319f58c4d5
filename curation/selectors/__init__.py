"""Selectors: each chooses, from a super-batch with the models' outputs, the sub-batch that the learner trains on.

A selector is a frozen dataclass whose fields are its configuration in the recipe. It only decides: `curation.selection`
draws the super-batches, runs the models and records the choices. To add a selector, write a file in this folder and add
its class to `SELECTORS`; in a package of your own, declare the class as an entry point of the group
`tutelage.selectors`.
"""

from __future__ import annotations

from curation.core.entry_points import with_installed
from curation.selectors.blend import Blend, EasyReference, HardLearner, Learnability
from curation.selectors.joint import Joint
from curation.selectors.replay import Replay
from curation.selectors.selector import Role, Selector
from curation.selectors.uniform import Shuffled, Uniform

__all__ = [
    "SELECTORS",
    "Role",
    "Selector",
    "schedule",
    "selection_settings",
]

#: name in the recipe -> dataclass. The recipe's schema, the help and the contract test come from this table.
SELECTORS: dict[str, type[Selector]] = with_installed(
    "tutelage.selectors",
    {
        "blend": Blend,
        "easy_reference": EasyReference,
        "hard_learner": HardLearner,
        "joint": Joint,
        "learnability": Learnability,
        "replay": Replay,
        "shuffled": Shuffled,
        "uniform": Uniform,
    },
    Selector,
)
