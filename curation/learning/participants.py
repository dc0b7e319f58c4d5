"""Who takes part in a run: candidates, learner, online model, reference, as its recipe says.

Made anew in every process that learns or chooses; one that only chooses leaves out a learner that nobody asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from curation.learners.learner import Learner
from curation.learners.training import Training
from curation.learning.columns import check_column
from curation.learning.data import Data
from curation.models.batches import SuperBatch
from curation.recipes.learning_recipe import LearnRecipe
from curation.recipes.learning_sections import OnlineModel, ReferenceModel
from curation.selection.online import Model, OnlineStep, Roles, TableScores
from curation.selection.pool import Blocks, Pool


class TimedModel:
    """A model whose samples and seconds are counted: samples/s of each role, and the ledger's device-seconds."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.devices = 1  # that work on it at once
        self.samples, self.seconds = 0, 0.0
        self.before = 0.0  # seconds of the run's earlier parts

    @property
    def steps(self) -> int:
        return int(self.model.steps)

    def step(self, batch: Any) -> Any:
        return self._count(len(batch.pixels), self.model.step, batch)

    def outputs(self, candidates: SuperBatch) -> Any:
        return self._count(len(candidates.rows), self.model.outputs, candidates)

    def fingerprint(self) -> str:
        return str(self.model.fingerprint())

    def add(self, samples: int, seconds: float) -> None:
        """What was done elsewhere."""
        self.samples += samples
        self.seconds += seconds

    def _count(self, samples: int, call: Callable[[Any], Any], argument: Any) -> Any:
        began = time.monotonic()
        found = call(argument)
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)  # else a role's seconds would be those of whoever waits
        self.add(samples, self.devices * (time.monotonic() - began))
        return found


class Participants:
    """The models of a run and what they are shown. `learns`: whether this process trains the learner."""

    def __init__(
        self, recipe: LearnRecipe, data: Data, blocks: Blocks, device: torch.device, *, learns: bool = True
    ) -> None:
        self.recipe, self.device = recipe, device
        self.classes, self.urls, self.captions = data.classes, data.urls, data.held_out.captions
        self.pool = Pool(blocks, recipe.learner.seed)
        wanted = recipe.selection.selector.roles()
        asked = "online" in wanted and recipe.online == "learner"
        self.learner = self._make(recipe.learner.model, recipe.training) if learns or asked else None
        self.online = self.learner if asked else None
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
        """Who takes part, timed. Where nobody learns here, the learner is missing."""
        online: Any = None
        if self.online is not None:
            online = self.timed["learner" if self.online is self.learner else "online"]
        learner: Any = self.timed.get("learner")
        return Roles(
            learner=learner, online=online, reference=self.timed.get("reference", self.reference),
            reference_pool=self.reference_pool,
        )  # fmt: skip

    def learning(self) -> dict[str, Learner]:
        """The models that are trained, by role: what a checkpoint holds."""
        models = self._models()
        if self.reference_pool is None:
            models.pop("reference", None)
        return models

    def models(self) -> dict[str, Learner]:
        """Whose passes are paid, by role: the learner twice, where it is its own online model."""
        return self._models() | ({"online": self.online} if self.online is not None else {})

    def text_lengths(self, step: OnlineStep) -> dict[str, Mapping[int, int]]:
        """The lengths of the captions of a step, as all that took part has computed them: for the ledger of compute."""
        models = {"online": self.online, "reference": self.reference}
        return text_lengths(step, self.pool, {role: models[role] for role in self.scoring()})

    def scoring(self) -> frozenset[str]:
        """The roles whose forward passes are paid: not a reference that is read from the score tables."""
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
        recipe = self.recipe
        if found.column is not None:
            return TableScores(check_column(recipe, found.column, self.urls))
        if found.train is not None:
            return self._make(found.model, self._reference_training(found))
        weights = recipe.reference_weights()
        assert weights is not None, "the recipe has checked it"
        training = self._reference_training(found)
        return recipe.learner.load_reference(found.model, weights, training, self.classes, self.device, recipe.options)

    def _reference_training(self, found: ReferenceModel) -> Training:
        """Return the learner's settings with the reference's own seed and scoring size."""
        own = {"averaging": 0.0, "micro_batch": 0, "compile": False, "reduced": 0.0, "scoring_size": found.scoring_size}
        if found.train is not None and found.scoring_size:
            own["reduced"] = 0.5  # what it is asked at, it has to have seen
        return replace(self.recipe.training, seed=self.recipe.learner.seed + 2, **own)  # type: ignore[arg-type]


def text_lengths(step: OnlineStep, pool: Pool, scoring: Mapping[str, Any]) -> dict[str, Mapping[int, int]]:
    """The lengths of the captions of a step, by their kinds in `ComputeLedger.texts`. `scoring`: the models that scored
    its candidates, by role. Reads the ids of the candidates' captions alone, and nothing for a classifier."""
    reports = {"learner": step.report, "online": step.online_report, "reference": step.reference_report}
    found = {role: report.text_lengths for role, report in reports.items() if report is not None}
    models = {role: model for role, model in scoring.items() if model.reads_captions}
    if step.choice.scores is not None and models:
        targets = pool.targets(step.choice.candidates)
        found |= {f"{role}_scoring": model.text_lengths(targets, training=False) for role, model in models.items()}
    return found
