"""Sections of a learning recipe: the models that choose, how they choose, and the use of a cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import Field

from curation.core.errors import RecipeError
from curation.models.weights import Weights
from curation.recipes.sections import Reading, Section
from curation.recipes.yaml_document import build_entry
from curation.selectors import SELECTORS
from curation.selectors.schedule import Schedule
from curation.selectors.selection_settings import SelectionSettings


class OnlineModel(Section):
    """The small model whose losses stand in for the learner's. Absent settings are the learner's."""

    model: str = Field(default="proxy-mu", description="a name that `curate proxy ls --all` lists")
    lr: float | None = Field(default=None, gt=0, description="the highest learning rate")
    scoring_size: int | None = Field(default=None, ge=0, description="side of scored pictures, pixels; 0: the model's")
    reduced: float | None = Field(default=None, ge=0, le=1, description="share of a batch at the scoring size")


class ReferenceModel(Section):
    """The frozen reference: `weights` with their sha256, a score `column`, or trusted data to `train` on."""

    model: str = Field(default="proxy-mu", description="a name that `curate proxy ls --all` lists")
    weights: str | None = Field(default=None, description="URL of a safetensors file")
    sha256: str | None = Field(default=None, description="sha256 of the weights")
    column: str | None = Field(default=None, description="score column of the snapshot's manifest")
    train: str | None = Field(default=None, description="URL of trusted data that the run trains a reference on")
    scoring_size: int = Field(default=0, ge=0, description="side of scored pictures, pixels; 0: the model's")

    @property
    def pinned_weights(self) -> Weights | None:
        """The file that the reference is loaded from; None for a column and for one that is trained."""
        return Weights(self.weights, self.sha256 or "") if self.weights else None


class SelectionSection(Section):
    """The section `selection` as written; `SelectionSettings` explains and checks its fields."""

    selector: str | dict[str, Any] = Field(
        default="uniform", description="a name of the selectors' table, or the name with its fields"
    )
    filtering_ratio: Schedule = Field(default=0.5, description="1 - b / B: a number, or a straight line over the run")
    stop: float = Field(default=1.0, ge=0, le=1, description="share of the run from which on batches are uniform")
    lag: int = Field(default=0, ge=0, description="updates by which the choosing models may be older than the learner")
    publish_every: int = Field(default=1, ge=1, description="updates between two versions of the choosing models")


def build_selection(section: SelectionSection, reading: Reading) -> SelectionSettings:
    """Build the selector and its settings. Raises `UserError`, with the line of the key that is wrong."""
    written, key = section.selector, "filtering_ratio"
    entry = {written: {}} if isinstance(written, str) else written
    _, selector = build_entry(entry, SELECTORS, reading.where, ("selection", "selector"), "selector")
    try:
        made = SelectionSettings(selector=selector, filtering_ratio=section.filtering_ratio, stop=section.stop)
        key = "lag"
        return replace(made, lag=section.lag, publish_every=section.publish_every)
    except ValueError as error:
        raise RecipeError(f"{reading.where(('selection', key))}: {error}") from None


class LearnCompute(Section):
    """How to use a cluster: learners train together, actors choose ahead of them. No sub-batch depends on it.

    More than one learner changes the order of additions, and with it the last digits of the weights.
    """

    learners: int = Field(default=1, ge=1, description="learners that train together, a process each")
    learner_cpus: float = Field(default=1, gt=0, description="CPUs of a learner; it has as many threads, at least one")
    learner_gpus: float = Field(default=0, ge=0, description="GPUs of a learner")
    actors: int = Field(default=1, ge=1, description="actors, at most; fewer if the cluster has no room")
    actor_cpus: float = Field(default=1, gt=0, description="CPUs of an actor")
    actor_gpus: float = Field(default=0, ge=0, description="GPUs of an actor; fractions share a GPU")
    readers: int = Field(default=2, ge=1, description="shards that are read at once, beside learners and actors")
    buffer: int | None = Field(default=None, ge=1, description="chosen sub-batches in advance; default: lag + actors")
    max_failures: int = Field(default=5, ge=0, description="failures after one checkpoint; one more ends the run")
