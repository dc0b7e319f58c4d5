"""The YAML recipe of a run of online selection: data, learner, the models that choose, how they choose.

Learners and selectors are entries of their rooms' tables, as scorers and filters are in a curation recipe.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field

from curation.core.digest import digest
from curation.core.errors import RecipeError
from curation.learners import LEARNERS, LearnerKind
from curation.learners.training import Training
from curation.models.architecture import model_config
from curation.models.batches import BUDGET
from curation.models.weights import Weights
from curation.recipes.yaml_document import (
    Section,
    StoreSection,
    Where,
    build_entry,
    parse_document,
    read_recipe,
    store_options,
)
from curation.selectors import SELECTORS, Selector
from curation.selectors.schedule import Ramp, Schedule
from curation.selectors.selection_settings import SelectionSettings
from curation.storage.store import StoreOptions


class OnlineModel(Section):
    """The small model that stands in for the learner in the scores; what is not said here is as with the learner."""

    model: str = "proxy-mu"
    lr: float | None = Field(default=None, gt=0)
    scoring_size: int | None = Field(default=None, ge=0)
    reduced: float | None = Field(default=None, ge=0, le=1)


class ReferenceModel(Section):
    """Weights with their sha256; or `column`, a score of the snapshot's manifest; or `train`, a URL of trusted data."""

    model: str = "proxy-mu"
    weights: str | None = None
    sha256: str | None = None
    column: str | None = None
    train: str | None = None
    scoring_size: int = Field(default=0, ge=0)


class _RampSection(Section):
    start: float
    end: float
    until: float = 1.0


class _SelectionSection(Section):
    selector: str | dict[str, Any] = "uniform"
    filtering_ratio: float | _RampSection = 0.5
    stop: float = Field(default=1.0, ge=0, le=1)
    lag: int = Field(default=0, ge=0)
    publish_every: int = Field(default=1, ge=1)


class LearnCompute(Section):
    """How a cluster is used: learners train together, actors choose ahead of them. No sub-batch depends on it.

    More than one learner changes the order of additions, and with it the last digits of the weights.
    """

    learners: int = Field(default=1, ge=1)
    learner_cpus: float = Field(default=1, gt=0)  # each; its threads, at least one
    learner_gpus: float = Field(default=0, ge=0)
    actors: int = Field(default=1, ge=1)  # at most; as many as there is room for
    actor_cpus: float = Field(default=1, gt=0)
    actor_gpus: float = Field(default=0, ge=0)
    readers: int = Field(default=2, ge=1)  # shards that are read at once, beside learners and actors
    buffer: int | None = Field(default=None, ge=1)  # sub-batches ahead of the learner; default: lag + actors
    max_failures: int = Field(default=5, ge=0)  # of learners after one checkpoint; with one more the run ends


def _each_once(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("a field is named twice")
    if "data" in names:
        raise ValueError("data is no field of a sample: of several URLs it is told anyhow")
    return names


def _model_or_learner(value: Any) -> Any:
    if isinstance(value, str) and value != "learner":
        raise ValueError(f"{value} is neither `learner` nor the fields of a model, such as {{model: proxy-mu}}")
    return value


class _Document(Section):
    data: str | Annotated[list[str], Field(min_length=1)]
    output: str
    learner: dict[str, Any]
    online: Annotated[OnlineModel | Literal["learner"] | None, BeforeValidator(_model_or_learner)] = None
    reference: ReferenceModel | None = None
    selection: _SelectionSection = Field(default_factory=_SelectionSection)
    compare: str | None = None
    evaluation: str | None = None
    holdout: float = Field(default=0.05, ge=0, le=0.5)
    by: Annotated[list[str], AfterValidator(_each_once)] = Field(default_factory=list)
    weighted: bool = True
    evaluate_every: int = Field(default=50, ge=1)
    checkpoint_every: int = Field(default=200, ge=1)
    memory: ByteSize = Field(default=ByteSize(BUDGET))
    device: str = "auto"
    threads: int = Field(default=1, ge=0)  # of every process; 0: as many as it has CPUs. They decide the last bits
    compute: LearnCompute | None = None
    store: StoreSection = Field(default_factory=StoreSection)


@dataclasses.dataclass(frozen=True)
class LearnRecipe:
    """A validated recipe of a run. `document` is as written, for the record."""

    data: tuple[str, ...]
    output: str
    kind: str  # of the learner: its name in the table
    learner: LearnerKind
    online: OnlineModel | Literal["learner"] | None
    reference: ReferenceModel | None
    selection: SelectionSettings
    compare: str | None  # URL of a uniform run, against which the report says what was saved
    evaluation: str | None
    holdout: float
    by: tuple[str, ...]  # fields of the samples' json by which the metrics tell what was chosen
    weighted: bool  # whether candidates come as often as they weigh in their snapshots' manifests
    evaluate_every: int
    checkpoint_every: int
    memory: int  # bytes, at most, of candidates' pixels: once a node of a cluster
    device: str
    threads: int
    compute: LearnCompute | None  # None: one process
    options: StoreOptions
    document: Mapping[str, Any]

    @property
    def identity(self) -> str:
        """Hash of all that decides the weights but the data, the device and the number of threads."""
        about = {name: value for name, value in self.document.items() if name not in _BESIDES}
        return digest(about)

    @property
    def training(self) -> Training:
        """The learner's settings without its kind's own."""
        return self.learner.training

    @property
    def replay(self) -> str | None:
        """URL of the run whose sub-batches are trained on; None for a selector that chooses by itself."""
        return self.selection.selector.replayed_run()

    def online_training(self) -> Training:
        """The online model's: as the learner's, but for what its section says. Another seed, as it is another model."""
        assert isinstance(self.online, OnlineModel)
        said = self.online.model_dump(exclude={"model"}, exclude_none=True)
        own = {"averaging": 0.0, "micro_batch": 0, "seed": self.learner.seed + 1, "compile": False}
        return dataclasses.replace(self.training, **{**own, **said})

    def reference_weights(self) -> Weights | None:
        """What a frozen reference is loaded from."""
        found = self.reference
        return Weights(found.weights, found.sha256 or "") if found is not None and found.weights else None


_BESIDES = frozenset(
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
        "weighted",  # the data's hash says what they weigh
    }
)


def load_learn_recipe(path: str | Path, overrides: Sequence[str] = ()) -> LearnRecipe:
    """Read and validate a recipe file; `overrides` are `key=value` or `key.sub=value`, values in YAML."""
    return parse_learn_recipe(read_recipe(path), str(path), overrides)


def parse_learn_recipe(text: str, name: str = "recipe", overrides: Sequence[str] = ()) -> LearnRecipe:
    """Validate a recipe's text. Raises `RecipeError` or `UnknownNameError`, one line each."""
    needs = "it needs at least data:, output: and learner:"
    document, value, where = parse_document(text, _Document, name, overrides, needs)
    kind, learner = build_entry(document.learner, LEARNERS, where, ("learner",), "learner")
    section = document.selection
    at = ("selection", "selector")
    entry = {section.selector: {}} if isinstance(section.selector, str) else section.selector
    _, selector = build_entry(entry, SELECTORS, where, at, "selector")
    _check_roles(document, learner, selector, where)
    selection = _selection(section, selector, where)
    _check_sizes(document, learner, where)
    buffer = document.compute.buffer if document.compute is not None else None
    if buffer is not None and buffer <= selection.lag:
        text = f"{where(('compute', 'buffer'))}: a buffer of {buffer} is too small for a lag of {selection.lag}"
        raise RecipeError(text, fix="at least lag + 1, or leave it out")
    if document.compute is not None and learner.batch % document.compute.learners:
        text = f"{where(('compute', 'learners'))}: a batch of {learner.batch} is no multiple of"
        raise RecipeError(f"{text} {document.compute.learners} learners", fix="another number of learners")
    if document.compute is not None and document.compute.learners > 1 and 0 < document.compute.learner_gpus < 1:
        text = f"{where(('compute', 'learner_gpus'))}: {document.compute.learners} learners can't share a GPU"
        raise RecipeError(f"{text}: NCCL wants one for each", fix="learner_gpus: 1, or one learner")
    if document.compute is not None and document.device.startswith("cuda"):
        text = f"{where(('device',))}: {document.device} is for one process; here learners and actors are given GPUs"
        raise RecipeError(text, fix="leave device out; compute: {learner_gpus: 1, actor_gpus: 0.5}")
    recipe = LearnRecipe(
        data=(document.data,) if isinstance(document.data, str) else tuple(document.data),
        output=document.output,
        kind=kind,
        learner=learner,
        online=document.online,
        reference=document.reference,
        selection=selection,
        compare=document.compare,
        evaluation=document.evaluation,
        holdout=document.holdout,
        by=tuple(document.by),
        weighted=document.weighted,
        evaluate_every=document.evaluate_every,
        checkpoint_every=document.checkpoint_every,
        memory=int(document.memory),
        device=document.device,
        threads=document.threads,
        compute=document.compute,
        options=store_options(document.store, where),
        document=value,
    )
    if isinstance(recipe.online, OnlineModel):
        try:
            recipe.online_training()
        except ValueError as error:
            raise RecipeError(f"{where(('online',))}: online: {error}") from None
    return recipe


def _selection(section: _SelectionSection, selector: Selector, where: Where) -> SelectionSettings:
    key = "filtering_ratio"
    try:
        found = SelectionSettings(
            selector=selector, filtering_ratio=_schedule(section.filtering_ratio), stop=section.stop
        )
        key = "lag"
        return dataclasses.replace(found, lag=section.lag, publish_every=section.publish_every)
    except ValueError as error:
        raise RecipeError(f"{where(('selection', key))}: {error}") from None


def _check_roles(document: _Document, learner: LearnerKind, selector: Selector, where: Where) -> None:
    """Every role that the selector looks at is in the recipe, and a reference comes from one place."""
    roles = selector.roles()
    name = type(selector).__name__.lower()
    if "online" in roles and document.online is None:
        text = f"{where(('selection',))}: the selector {name} looks at an online model, and there is none"
        raise RecipeError(text, fix="add `online: {model: proxy-mu}`, or `online: learner`")
    if "reference" in roles and document.reference is None:
        text = f"{where(('selection',))}: the selector {name} looks at a reference, and there is none"
        raise RecipeError(text, fix="add `reference: {model: ..., weights: URL, sha256: ...}`")
    reference = document.reference
    column = reference is not None and reference.column and "reference" in roles
    if selector.needs_pairs() and (not learner.has_pairs or column):
        what = "a column has none" if learner.has_pairs else f"a {type(learner).__name__.lower()} learner has none"
        at = where(("selection", "selector"))
        text = f"{at}: the selector {name} with these settings looks at pairs of image and caption, and {what}"
        fix = "`learnability: {loss: pointwise}`" + (", or a reference with `weights:`" if column else "")
        raise RecipeError(text, fix=fix)
    if reference is None:
        return
    at = where(("reference",))
    said = [name for name in ("weights", "column", "train") if getattr(reference, name)]
    if len(said) != 1:
        text = f"{at}: a reference has one of weights, column and train; here: {', '.join(said) or 'none'}"
        raise RecipeError(text, fix="`weights: URL` with `sha256:`, `column: clip_score`, or `train: URL`")
    if reference.weights and not reference.sha256:
        raise RecipeError(f"{at}: sha256 of reference is missing", fix="`curate proxy train` prints it")


def _check_sizes(document: _Document, learner: LearnerKind, where: Where) -> None:
    """A size to score at is one that the patches of the model divide."""
    sizes: list[tuple[tuple[str, ...], str, int]] = [(("learner",), learner.model, learner.scoring_size)]
    if isinstance(document.online, OnlineModel):
        own = document.online.scoring_size  # or else, as everything, the learner's
        place = ("learner",) if own is None else ("online", "scoring_size")
        sizes.append((place, document.online.model, learner.scoring_size if own is None else own))
    if document.reference is not None:
        sizes.append((("reference", "scoring_size"), document.reference.model, document.reference.scoring_size))
    for at, model, size in sizes:
        patch = model_config(model)["vision_cfg"].get("patch_size")
        if size and (not patch or size % patch):
            text = f"{where(at)}: a scoring_size of {size} is no multiple of the {patch} pixels of {model}'s patches"
            raise RecipeError(text, fix=f"{max(1, round(size / (patch or 16))) * (patch or 16)}")


def _schedule(section: float | _RampSection) -> Schedule:
    if isinstance(section, float | int):
        return float(section)
    return Ramp(start=section.start, end=section.end, until=section.until)
