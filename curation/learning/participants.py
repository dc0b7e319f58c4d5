"""The models of a run, by role, as its recipe describes them: learner, online model, reference, and their pools.

Every process that learns or chooses builds its own; a process that only chooses builds no learner that isn't scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from curation.learners.learner import Learner
from curation.learners.training import Training
from curation.learning.data import Data
from curation.learning.timing import TimedModel
from curation.recipes.learning_recipe import LearnRecipe
from curation.recipes.learning_sections import OnlineModel, ReferenceModel
from curation.selection.online import Model, OnlineStep, Roles, TableScores
from curation.selection.pool import Pool
from curation.selection.pool_blocks import Blocks


class Participants:
    """The models of a run and the pools that they draw from. learns: whether this process trains the learner."""

    def __init__(
        self, recipe: LearnRecipe, data: Data, blocks: Blocks, device: torch.device, *, learns: bool = True
    ) -> None:
        self.recipe, self.device = recipe, device
        self.classes, self.captions, self.column = data.classes, data.held_out.captions, data.candidates.column
        self.pool = Pool(blocks, recipe.learner.seed)
        wanted = recipe.selection.selector.roles()
        scores_itself = "online" in wanted and recipe.online == "learner"
        self.learner = self._make(recipe.learner.model, recipe.training) if learns or scores_itself else None
        self.online = self.learner if scores_itself else None
        if "online" in wanted and isinstance(recipe.online, OnlineModel):
            self.online = self._make(recipe.online.model, recipe.online_training())
        self.reference: Model | None = None
        self.reference_pool: Pool | None = None
        if "reference" in wanted and recipe.reference is not None:
            self.reference = self._reference(recipe.reference)
            if data.trusted is not None:
                targets = recipe.learner.targets(data.trusted, self.classes)
                self.reference_pool = Pool.of(data.trusted, targets, recipe.learner.seed + 2)
        self.timed = {name: TimedModel(model) for name, model in self._models().items()}

    def roles(self) -> Roles[Any]:
        """Return the timed models by role. The learner is None in a process that doesn't train it."""
        online: Any = None
        if self.online is not None:
            online = self.timed["learner" if self.online is self.learner else "online"]
        learner: Any = self.timed.get("learner")
        return Roles(
            learner=learner, online=online, reference=self.timed.get("reference", self.reference),
            reference_pool=self.reference_pool,
        )  # fmt: skip

    def learning(self) -> dict[str, Learner]:
        """Return the models that are trained, by role: what a checkpoint holds."""
        models = self._models()
        if self.reference_pool is None:
            models.pop("reference", None)
        return models

    def models(self) -> dict[str, Learner]:
        """Return the models whose passes are charged, by role; a learner that is its own online model has both."""
        return self._models() | ({"online": self.online} if self.online is not None else {})

    def text_lengths(self, step: OnlineStep) -> dict[str, Mapping[int, int]]:
        """Return the lengths of a step's captions, as each role computed them: for the ledger of compute."""
        models = {"online": self.online, "reference": self.reference}
        return text_lengths(step, self.pool, {role: models[role] for role in self.scoring()})

    def scoring(self) -> frozenset[str]:
        """Return the roles whose scoring is charged: all but a reference that is a column of scores."""
        roles = self.recipe.selection.selector.roles()
        return frozenset(role for role in roles if role == "online" or not isinstance(self.reference, TableScores))

    def _models(self) -> dict[str, Learner]:
        found: dict[str, Learner] = {} if self.learner is None else {"learner": self.learner}
        if self.online is not None and self.online is not self.learner:
            found["online"] = self.online
        if isinstance(self.reference, Learner):
            found["reference"] = self.reference
        return found

    def _make(self, model: str, training: Training) -> Learner:
        """Return an untrained model of the recipe's kind."""
        return self.recipe.learner.build(model, training, self.classes, self.device)

    def _reference(self, found: ReferenceModel) -> Model:
        """Return the reference: a column of scores, an untrained model, or one with the recipe's weights."""
        recipe = self.recipe
        if found.column is not None:
            assert self.column is not None, "a selector that reads the reference has its column resolved"
            return TableScores(self.column.fingerprint)
        if found.train is not None:
            return self._make(found.model, self._reference_training(found))
        weights = recipe.reference_weights()
        assert weights is not None, "a recipe without them is invalid"
        training = self._reference_training(found)
        return recipe.learner.load_reference(found.model, weights, training, self.classes, self.device, recipe.options)

    def _reference_training(self, found: ReferenceModel) -> Training:
        """Return the learner's settings with the reference's own seed and scoring size."""
        own = {"averaging": 0.0, "micro_batch": 0, "compile": False, "reduced": 0.0, "scoring_size": found.scoring_size}
        if found.train is not None and found.scoring_size:
            own["reduced"] = 0.5  # it has to train at the size at which it scores
        return replace(self.recipe.training, seed=self.recipe.learner.seed + 2, **own)  # type: ignore[arg-type]


def text_lengths(step: OnlineStep, pool: Pool, scoring: Mapping[str, Any]) -> dict[str, Mapping[int, int]]:
    """Return the lengths of a step's captions, by their kinds in `ComputeLedger.texts`: length in tokens -> captions.

    scoring: the models that scored its candidates, by role. Reads token ids of candidates, and nothing for classifiers.
    """
    reports = {"learner": step.report, "online": step.online_report, "reference": step.reference_report}
    found = {role: report.text_lengths for role, report in reports.items() if report is not None}
    models = {role: model for role, model in scoring.items() if model.reads_captions}
    if step.choice.scores is not None and models:
        targets = pool.targets(step.choice.candidates)
        found |= {f"{role}_scoring": model.text_lengths(targets, training=False) for role, model in models.items()}
    return found
