"""Checks of a learning recipe that concern several of its sections. Each raises `RecipeError`, with the line."""

from __future__ import annotations

from typing import Literal

from curation.core.errors import RecipeError, locating
from curation.learners import LearnerKind
from curation.models.architecture import model_config
from curation.recipes.learning_sections import LearnCompute, OnlineModel, ReferenceModel
from curation.recipes.locations import Where
from curation.selectors import Selector
from curation.selectors.selection_settings import SelectionSettings

Online = OnlineModel | Literal["learner"] | None


def check_roles(
    learner: LearnerKind, online: Online, reference: ReferenceModel | None, selector: Selector, where: Where
) -> None:
    """Check that the recipe has every role that the selector reads, and that its outputs suit the selector."""
    roles = selector.roles()
    name = type(selector).__name__.lower()
    if "online" in roles and online is None:
        text = f"{where(('selection',))}: the selector {name} looks at an online model, and the recipe has none"
        raise RecipeError(text, fix="add `online: {model: proxy-mu}`, or `online: learner`")
    if "reference" in roles and reference is None:
        text = f"{where(('selection',))}: the selector {name} looks at a reference, and the recipe has none"
        raise RecipeError(text, fix="add `reference: {model: ..., weights: URL, sha256: ...}`")
    column = reference is not None and reference.column and "reference" in roles
    if selector.needs_pairs() and (not learner.has_pairs or column):
        what = "a column has none" if learner.has_pairs else f"a {type(learner).__name__.lower()} learner has none"
        at = where(("selection", "selector"))
        text = f"{at}: the selector {name} with these settings looks at pairs of image and caption, and {what}"
        fix = "`learnability: {loss: pointwise}`" + (", or a reference with `weights:`" if column else "")
        raise RecipeError(text, fix=fix)


def check_reference(reference: ReferenceModel | None, where: Where) -> None:
    """Check that a reference has exactly one origin, and that its weights are pinned."""
    if reference is None:
        return
    at = where(("reference",))
    origins = [name for name in ("weights", "column", "train") if getattr(reference, name)]
    if len(origins) != 1:
        text = f"{at}: a reference has one of weights, column and train; here: {', '.join(origins) or 'none'}"
        raise RecipeError(text, fix="`weights: URL` with `sha256:`, `column: clip_score`, or `train: URL`")
    if reference.weights and not reference.sha256:
        raise RecipeError(f"{at}: sha256 of reference is missing", fix="`curate proxy train` prints it")


def check_sizes(learner: LearnerKind, online: Online, reference: ReferenceModel | None, where: Where) -> None:
    """Check that the patches of each model divide the size at which it scores."""
    sizes: list[tuple[str, tuple[str, ...], str, int]] = [
        ("learner", ("learner",), learner.model, learner.scoring_size)
    ]
    if isinstance(online, OnlineModel):
        own = online.scoring_size  # absent: the learner's, as every setting
        place = ("learner",) if own is None else ("online", "scoring_size")
        sizes.append(("online", place, online.model, learner.scoring_size if own is None else own))
    if reference is not None:
        sizes.append(("reference", ("reference", "scoring_size"), reference.model, reference.scoring_size))
    for role, at, model, size in sizes:
        with locating(f"{where((role, 'model'))}: {role}.model"):
            patch = model_config(model)["vision_cfg"].get("patch_size")
        if size and (not patch or size % patch):
            text = f"{where(at)}: a scoring_size of {size} is not a multiple of the {patch} pixels of {model}'s patches"
            raise RecipeError(text, fix=f"{max(1, round(size / (patch or 16))) * (patch or 16)}")


def check_compute(
    compute: LearnCompute | None, learner: LearnerKind, selection: SelectionSettings, device: str, where: Where
) -> None:
    """Check that the learner's batch, the lag and the device fit the use of the cluster."""
    if compute is None:
        return
    if compute.buffer is not None and compute.buffer <= selection.lag:
        at = where(("compute", "buffer"))
        text = f"{at}: a buffer of {compute.buffer} is too small for a lag of {selection.lag}"
        raise RecipeError(text, fix="at least lag + 1, or leave it out")
    if learner.batch % compute.learners:
        at = where(("compute", "learners"))
        text = f"{at}: a batch of {learner.batch} is not a multiple of {compute.learners} learners"
        raise RecipeError(text, fix="another number of learners")
    if compute.learners > 1 and 0 < compute.learner_gpus < 1:
        at = where(("compute", "learner_gpus"))
        text = f"{at}: {compute.learners} learners can't share a GPU: NCCL needs one for each"
        raise RecipeError(text, fix="learner_gpus: 1, or one learner")
    if device.startswith("cuda"):
        text = f"{where(('device',))}: {device} is for one process; with compute, learners and actors are given GPUs"
        raise RecipeError(text, fix="leave device out; compute: {learner_gpus: 1, actor_gpus: 0.5}")
