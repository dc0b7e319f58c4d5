"""The data of a run besides its candidates, checked and read: held-out samples, classes, a reference's trusted data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from curation.core.errors import EmptyCorpusError, UserError
from curation.dataset.examples import gather, gather_some
from curation.dataset.loader import Part, split_label
from curation.learning.candidates import Candidates, SnapshotPlace, relabelled, stream_of
from curation.learning.leakage_check import BY_PICTURE, HeldOutPart, HoldoutSplit, check_leakage, models_of
from curation.learning.overlap_check import expect_disjoint, expect_held_out
from curation.learning.pinned_input import PinnedInput
from curation.learning.score_column import ScoreColumn, resolve_column, scorer_in
from curation.learning.sources import RunData
from curation.learning.summaries import summary_of
from curation.models.batches import Examples
from curation.models.retrieval import MAX_EVALUATED
from curation.recipes.learning_recipe import LearnRecipe
from curation.selection import checkpoint
from curation.storage.store import Store

Progress = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class Data:
    """Everything that a run reads, except the candidates themselves. Every process of the run receives it.

    sha256: of the pinned input. trusted: samples of a reference that learns beside the learner.
    unchecked: a line for each model that may have been trained on the held-out samples.
    compared: the summary of the run to compare with.
    """

    candidates: Candidates
    held_out: Examples
    output: Store
    sha256: str
    held_out_sha256: str
    trusted: Examples | None
    unchecked: tuple[str, ...] = ()
    compared: Mapping[str, Any] | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """The pinned URLs of the candidates' data."""
        return self.candidates.urls

    @property
    def classes(self) -> list[str]:
        """The classes in the order of the logits; [] for a learner without classes."""
        return list(self.candidates.classes)


def read_data(recipe: LearnRecipe, pinned: PinnedInput, progress: Progress) -> Data:
    """Check the input, and read everything but the candidates into memory.

    A resumed run keeps the classes that it began with. Raises, before any sample is read: `UserError` for data that
    overlap with each other or with the held-out samples, and `WeightsError` for a reference that doesn't fit its model.
    """
    if recipe.compare and pinned.compared is None:
        summary_of(recipe.compare, recipe)  # raises the reason
    weights = recipe.reference_weights()
    if weights is not None and recipe.reference is not None:
        recipe.learner.check_reference(recipe.reference.model, weights, recipe.options)
    if recipe.evaluation is None and not recipe.holdout:
        raise UserError("there is nothing to evaluate on", fix="holdout: 0.05, or evaluation: URL")
    expect_disjoint(pinned.data)
    if pinned.evaluation is not None and _judged_on_all(recipe):
        expect_held_out(pinned.evaluation, [*pinned.data, *([pinned.trusted] if pinned.trusted else [])])
    unchecked = _check_leakage(recipe, pinned)
    classes = _classes(recipe, pinned, progress)
    trusted = None if pinned.trusted is None else _read_trusted(recipe, pinned.trusted, classes, progress)
    return Data(
        candidates=_candidates(recipe, pinned, classes),
        held_out=_read_held_out(recipe, pinned, progress),
        output=pinned.output,
        sha256=pinned.sha256,
        held_out_sha256=pinned.held_out_sha256,
        trusted=trusted,
        unchecked=unchecked,
        compared=pinned.compared,
    )


def split_of(recipe: LearnRecipe) -> HoldoutSplit:
    """Return the samples that a run does not train on."""
    return HoldoutSplit(recipe.holdout, recipe.learner.holdout_unit)


def _candidates(recipe: LearnRecipe, pinned: PinnedInput, classes: Sequence[str]) -> Candidates:
    column: ScoreColumn | None = None
    if recipe.reference is not None and recipe.reference.column is not None and _reads_reference(recipe):
        column = resolve_column(recipe, recipe.reference.column, pinned.data)
    return Candidates(
        recipe=recipe,
        urls=pinned.urls,
        shards=tuple((index, shard) for index, source in enumerate(pinned.data) for shard in source.shards),
        snapshots=tuple(_place(source) for source in pinned.data),
        means=tuple(weights.mean if weights else None for weights in pinned.weights),
        classes=tuple(classes),
        column=column,
        sha256=pinned.candidates_sha256,
    )


def _place(source: RunData) -> SnapshotPlace | None:
    return None if source.snapshot is None else SnapshotPlace(source.snapshot.store.url, source.snapshot.number)


def _reads_reference(recipe: LearnRecipe) -> bool:
    return "reference" in recipe.selection.selector.roles()


def _check_leakage(recipe: LearnRecipe, pinned: PinnedInput) -> tuple[str, ...]:
    """Check the reference's weights, or those of the scorers that made its column. See `check_leakage`."""
    if recipe.reference is None or not _reads_reference(recipe):
        return ()
    weights, column = recipe.reference_weights(), recipe.reference.column
    models = dict.fromkeys([] if weights is None else [weights])
    for source in pinned.data if column is not None else ():
        found = None if source.snapshot is None else scorer_in(source.snapshot, str(column))
        models |= dict.fromkeys(() if found is None else models_of(found[1]))
    sources = pinned.data if pinned.evaluation is None else (pinned.evaluation,)
    split = split_of(recipe)
    judged = HeldOutPart(sources, replace(split, share=0.0) if _judged_on_all(recipe) else split)
    return tuple(check_leakage(list(models), judged, recipe.options))


def _judged_on_all(recipe: LearnRecipe) -> bool:
    """Return whether all evaluation samples are judged on, and not only those that every run with this holdout omits.

    Of other data that are held out by picture, all are: no run with this holdout has trained on these pictures.
    """
    return not recipe.holdout or (recipe.evaluation is not None and recipe.learner.holdout_unit == BY_PICTURE)


def _classes(recipe: LearnRecipe, pinned: PinnedInput, progress: Progress) -> list[str]:
    """Return a classifier's classes in the order of its logits; a resumed run's from its checkpoint."""
    if recipe.learner.label_field is None:
        return []
    begun = checkpoint.latest_facts(pinned.output)
    if begun is not None and begun.get("identity") == recipe.identity:
        return list(begun["classes"])
    shards = [shard for source in pinned.data for shard in source.shards]
    counts: Counter[str] = Counter()
    with progress("Reading the labels", None) as advance:
        for label in stream_of(shards, recipe, _trained_part(recipe)).read_labels():
            counts[split_label(label)[0]] += 1
            advance(1)
    return recipe.learner.classes(counts)


def _trained_part(recipe: LearnRecipe) -> Part:
    return "train" if recipe.holdout else "all"


def _read_trusted(recipe: LearnRecipe, source: RunData, classes: Sequence[str], progress: Progress) -> Examples:
    """Read the data of a reference that learns beside the learner, without the held-out part."""
    batch = recipe.learner.batch
    with progress("Reading the reference's data", None) as advance:
        stream = stream_of(source.shards, recipe, _trained_part(recipe))
        found = gather(stream, budget=recipe.memory, advance=advance)
    if found is None:
        raise UserError(f"{source.url} does not fit into {recipe.memory:,} bytes of memory", fix="a larger `memory:`")
    fix = "name more data, or a smaller learner batch"
    if len(found) < batch:
        raise EmptyCorpusError(f"{source.url} has {len(found)} samples for the reference, and a batch takes {batch}",
                               fix=fix)  # fmt: skip
    found = relabelled(found, [split_label(label)[0] for label in found.labels])
    rows = recipe.learner.usable_rows(found, classes)
    if len(rows) < batch:
        text = f"the reference's data has {len(rows)} samples of these classes, and a batch takes {batch}"
        raise EmptyCorpusError(text, fix=fix)
    return found if len(rows) == len(found) else found.take(list(rows))


def _read_held_out(recipe: LearnRecipe, pinned: PinnedInput, progress: Progress) -> Examples:
    """Read at most `MAX_EVALUATED` held-out samples. Raises `UserError` for fewer than two."""
    sources = pinned.data if pinned.evaluation is None else (pinned.evaluation,)
    part: Part = "all" if _judged_on_all(recipe) else "held_out"
    shards = [shard for source in sources for shard in source.shards]
    with progress("Reading the held-out part", None) as advance:
        found, _ = gather_some(stream_of(shards, recipe, part), MAX_EVALUATED, advance, recipe.evaluation_origins)
    if len(found) < 2:
        text = f"of {recipe.evaluation or ', '.join(pinned.urls)}, {len(found)} samples are held out that can be used"
        raise UserError(f"{text}; it takes 2", fix="a larger holdout:, or evaluation: URL, another dataset")
    return relabelled(found, [split_label(label)[0] for label in found.labels])
