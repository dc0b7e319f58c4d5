"""The YAML recipe of a run of online selection: data, learner, the models that choose, how they choose.

Learners and selectors are entries of their rooms' tables, as scorers and filters are in a curation recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, ValidationInfo, model_validator

from curation.core.digest import digest
from curation.core.errors import RecipeError
from curation.core.origins import TRUSTED, expect_origins
from curation.learners import LEARNERS, LearnerKind
from curation.learners.training import Training
from curation.models.batches import BUDGET
from curation.models.weights import Weights
from curation.recipes.learning_checks import check_compute, check_reference, check_roles, check_sizes
from curation.recipes.learning_sections import (
    LearnCompute,
    OnlineModel,
    ReferenceModel,
    SelectionSection,
    build_selection,
)
from curation.recipes.sections import Document, Reading, Store, Urls, Written, reading
from curation.recipes.yaml_document import build_entry, parse_document, read_recipe
from curation.selectors.selection_settings import SelectionSettings
from curation.storage.store import StoreOptions


def _build_learner(entry: dict[str, Any], read: Reading) -> LearnerKind:
    _, learner = build_entry(entry, LEARNERS, read.where, ("learner",), "learner")
    assert isinstance(learner, LearnerKind)
    return learner


def _check_fields(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("a field is named twice")
    if "data" in names:
        raise ValueError("data is not a field of a sample; metrics report each of several URLs in any case")
    return names


def _check_origins(names: tuple[str, ...]) -> tuple[str, ...]:
    expect_origins(names, "evaluation_origins")
    return names


def _model_or_learner(value: Any) -> Any:
    if isinstance(value, str) and value != "learner":
        raise ValueError(f"{value} is neither `learner` nor the fields of a model, such as {{model: proxy-mu}}")
    return value


class LearnRecipe(Document):
    """A validated recipe of a run of online selection."""

    data: Annotated[Urls, Field(min_length=1)] = Field(description="URLs of snapshots or shards to train on")
    output: str = Field(description="URL of the run")
    learner: Annotated[LearnerKind, Written(dict[str, Any], _build_learner)] = Field(
        description="the model to train, an entry of the learners' table"
    )
    online: Annotated[OnlineModel | Literal["learner"] | None, BeforeValidator(_model_or_learner)] = Field(
        default=None, description="the model whose losses stand in for the learner's, or `learner` itself"
    )
    reference: ReferenceModel | None = Field(default=None, description="the model trained on data worth imitating")
    selection: Annotated[SelectionSettings, Written(SelectionSection, build_selection)] = Field(
        default_factory=SelectionSettings, description="the selector, how much it chooses and when"
    )
    compare: str | None = Field(default=None, description="URL of a uniform run with which the report compares costs")
    evaluation: str | None = Field(default=None, description="URL of data to evaluate on, instead of a held-out part")
    holdout: float = Field(default=0.05, ge=0, le=0.5, description="share of the data that is held out")
    by: Annotated[tuple[str, ...], AfterValidator(_check_fields)] = Field(
        default=(), description="fields of the samples' json by which metrics report the chosen samples"
    )
    weighted: bool = Field(default=True, description="draw candidates in proportion to their snapshot's sample weights")
    evaluation_origins: Annotated[tuple[str, ...], AfterValidator(_check_origins)] = Field(
        default=TRUSTED, description="origins of the samples to evaluate on; real and relabelled unless named here"
    )
    evaluate_every: int = Field(default=50, ge=1, description="updates between two evaluations")
    checkpoint_every: int = Field(default=200, ge=1, description="updates between two checkpoints")
    memory: ByteSize = Field(default=ByteSize(BUDGET), description="bytes of candidates' pixels on a node, at most")
    device: str = Field(default="auto", description="device of a run in one process")
    threads: int = Field(
        default=1, ge=0, description="threads of every process; 0: one for each CPU. They decide the last bits"
    )
    compute: LearnCompute | None = Field(default=None, description="use of a cluster; absent: one process")
    store: Store = Field(
        default_factory=StoreOptions, description="the object store, and how long its failures are retried"
    )

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        where = reading(info).where
        check_roles(self.learner, self.online, self.reference, self.selection.selector, where)
        check_reference(self.reference, where)
        check_sizes(self.learner, self.online, self.reference, where)
        check_compute(self.compute, self.learner, self.selection, self.device, where)
        if isinstance(self.online, OnlineModel):
            try:
                self.online_training()
            except ValueError as error:
                raise RecipeError(f"{where(('online',))}: online: {error}") from None
        return self

    @property
    def kind(self) -> str:
        """The learner's name in its table."""
        return str(next(iter(self.document["learner"])))

    @property
    def options(self) -> StoreOptions:
        """How to reach the stores of this recipe."""
        return self.store

    @property
    def identity(self) -> str:
        """Hash of everything that decides the weights except the data, the device and the number of threads."""
        return digest({name: value for name, value in self.document.items() if name not in _NOT_IN_IDENTITY})

    @property
    def training(self) -> Training:
        """The learner's settings without its kind's own."""
        return self.learner.training

    @property
    def replay(self) -> str | None:
        """URL of the run whose sub-batches are trained on; None for a selector that chooses by itself."""
        return self.selection.selector.replayed_run()

    def online_training(self) -> Training:
        """Return the online model's settings: the learner's, unless its section differs, and another seed."""
        assert isinstance(self.online, OnlineModel)
        section = self.online.model_dump(exclude={"model"}, exclude_none=True)
        own = {"averaging": 0.0, "micro_batch": 0, "seed": self.learner.seed + 1, "compile": False}
        return replace(self.training, **{**own, **section})

    def reference_weights(self) -> Weights | None:
        """Return the file that a frozen reference is loaded from, if the recipe has one."""
        return self.reference.pinned_weights if self.reference is not None else None


_NOT_IN_IDENTITY = frozenset(
    {
        "data",
        "output",
        "compare",
        "by",
        "evaluate_every",
        "checkpoint_every",
        "memory",
        "device",
        "threads",
        "compute",
        "store",
        "weighted",  # the data's hash includes sample weights
    }
)


def load_learn_recipe(path: str | Path, overrides: Sequence[str] = ()) -> LearnRecipe:
    """Read and validate a recipe file; `overrides` are `key=value` or `key.sub=value`, values in YAML."""
    return parse_learn_recipe(read_recipe(path), str(path), overrides)


def parse_learn_recipe(text: str, name: str = "recipe", overrides: Sequence[str] = ()) -> LearnRecipe:
    """Validate a recipe's text. Raises `RecipeError` or another `UserError`, one line each.

    `name`: the file in messages. `overrides`: as in `load_learn_recipe`.
    """
    return parse_document(text, LearnRecipe, name, overrides, needs="it needs at least data:, output: and learner:")
