"""The protocol of a kind of learner: the samples it can use, the target of each picture, and the model itself.

A kind is the recipe's entry below `learner:`. All differences between kinds are methods or attributes here, so that
`curation.learning` names no kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import torch
from torch import Tensor

from curation.learners.learner import Learner
from curation.learners.training import Training
from curation.models.batches import Examples
from curation.models.weights import Weights
from curation.storage.store import StoreOptions

HoldoutUnit = Literal["name", "picture"]
LossUnit = Literal["cosine", "nats"]


@dataclass(frozen=True, kw_only=True)
class LearnerKind(Training):
    """The settings of a learner of one kind, and what distinguishes the kind. An entry of `LEARNERS`."""

    model: str = "proxy-mu"  # a name that `curate proxy ls --all` lists

    #: Which samples are held out together: all of one `name`, or all with the bytes of one `picture`.
    holdout_unit: ClassVar[HoldoutUnit] = "name"
    #: The unit of the losses that its models score with: minus a `cosine`, or `nats`.
    loss_unit: ClassVar[LossUnit] = "cosine"
    #: Whether its models' outputs are pairs of vectors, which a selector can compare with each other.
    has_pairs: ClassVar[bool] = False

    @property
    def training(self) -> Training:
        """The settings that all kinds share, without this kind's own."""
        return Training(**{field.name: getattr(self, field.name) for field in fields(Training)})

    @property
    def label_field(self) -> str | None:
        """The field of a sample's json that holds its class; None for a kind without classes."""
        return None

    def classes(self, counts: Mapping[str, int]) -> list[str]:
        """Return the classes, in the order of the logits, from the samples that each label has; [] without classes.

        Raises `EmptyCorpusError` if the labels make fewer than two classes.
        """
        return []

    def usable_rows(self, examples: Examples, classes: Sequence[str]) -> Sequence[int]:
        """Return the rows that can be trained on. Rows that are left out are reported as `no_class`."""
        return range(len(examples))

    def targets(self, examples: Examples, classes: Sequence[str]) -> Tensor:
        """Return the target of each picture: token ids int32 `[N, L]`, or classes int64 `[N]`."""
        raise NotImplementedError

    def build(
        self, model: str, training: Training, classes: Sequence[str], device: torch.device | str = "cpu"
    ) -> Learner:
        """Return an untrained model of this kind. `model` may be another than the learner's: a proxy.

        Raises `UserError` for a model that can't be trained on the same targets as the learner.
        """
        raise NotImplementedError

    def check_reference(self, model: str, weights: Weights, options: StoreOptions) -> None:
        """Raise `WeightsError` if the header of a reference's weights shows that they don't fit `model`."""

    def load_reference(
        self,
        model: str,
        weights: Weights,
        training: Training,
        classes: Sequence[str],
        device: torch.device | str,
        options: StoreOptions,
    ) -> Learner:
        """Return a trained model of this kind, to score with. `classes`: those of the run.

        Raises `WeightsError` for weights that don't fit, and `UserError` for a model that knows none of the classes.
        """
        raise NotImplementedError
