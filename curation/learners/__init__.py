"""The room of learners: each trains one kind of model on an iterator of batches.

To add one: write a file beside these and name it in `LEARNERS`, as `module:class`. Nothing is imported before it is
asked for, because learners import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

#: name -> where the class is
LEARNERS = {
    "classification": "curation.learners.classification:ClassLearner",
    "contrastive": "curation.learners.contrastive:ClipLearner",
}


def learner_class(name: str) -> type[Any]:
    """The class behind a name of `LEARNERS`."""
    module, _, attribute = LEARNERS[name].partition(":")
    found: type[Any] = getattr(import_module(module), attribute)
    return found


__all__ = [
    "classification",
    "contrastive",
    "learner",
]
