"""Kinds of learners: each trains one kind of model, by its own loss, on the batches that a selector chooses.

A kind is a frozen dataclass whose fields are its settings in the recipe; it derives from `LearnerKind` and builds a
`Learner`, the model under training. Runs of learners are in `curation.learning`. To add a kind, write a file in this
folder and add its class to `LEARNERS`; in a package of your own, declare the class as an entry point of the group
`tutelage.learners`.
"""

from __future__ import annotations

from curation.core.entry_points import with_installed
from curation.learners.classification import Classification
from curation.learners.contrastive import Contrastive
from curation.learners.kind import LearnerKind

__all__ = [
    "LEARNERS",
    "LearnerKind",
    "classification",
    "contrastive",
    "learner",
    "training",
]

#: name in the recipe -> dataclass. The recipe's schema, the help and the contract test come from this table.
LEARNERS: dict[str, type[LearnerKind]] = with_installed(
    "tutelage.learners",
    {
        "classification": Classification,
        "contrastive": Contrastive,
    },
    LearnerKind,
)
