"""Leakage: was a model, a reference or the scorer of a column, trained on the samples that a run is judged on?

A model that was trained with another holdout than the run's has seen a part of the run's held-out samples: with 0.05
against 0.1, half of them. Its training data are recorded in the card (or the summary) beside its weights, or else in
the header of their file. Where nothing is recorded, or the data no longer exist, the run reports that it can't tell.

Cost: nothing where the model held out as much by the same rule; else one listing of its training data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from curation.core.errors import NotFoundError, TutelageError, UserError
from curation.core.holdout import HOLDOUT_RULE
from curation.learners import LEARNERS
from curation.learning.overlap_check import overlap
from curation.learning.sources import RunData, resolve
from curation.models.weights import Weights, read_metadata
from curation.storage.store import StoreOptions, open_store

BY_NAME, BY_PICTURE = "name", "picture"  # the samples that are held out together
# Raised while reading a card of another program, or of an attacker: nested too deeply, numbers that are too long.
_FOREIGN = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)


@dataclass(frozen=True)
class HoldoutSplit:
    """Which samples of some data are held out: a share of the groups, by a rule (`HOLDOUT_RULE`)."""

    share: float
    grouping: str = BY_NAME
    rule: int = HOLDOUT_RULE


@dataclass(frozen=True)
class TrainingData:
    """Data that a model was trained on, without the samples that it held out.

    `url`, or `sha256` of the listing, is None where it is not recorded.
    """

    url: str | None
    sha256: str | None
    split: HoldoutSplit


@dataclass(frozen=True)
class HeldOutPart:
    """The samples that a run is judged on: the held-out part of some data; with a share of 0, all of them."""

    sources: Sequence[RunData]
    split: HoldoutSplit


class UnknownOverlap(Exception):
    """It can't be determined whether a model has seen the samples. The text is the reason."""


def check_leakage(models: Sequence[Weights], judged: HeldOutPart, options: StoreOptions) -> list[str]:
    """Return a line for each model whose training data are unknown.

    Raises `UserError` for the first model that was trained on samples that the run is judged on.
    """
    unknown: list[str] = []
    for one in models:
        found, line = leak_of(one, judged, options)
        if found is not None and line:
            text = f"{one.url} was trained on samples that the run is judged on: {line}"
            raise UserError(text, fix=_fix(found, judged))
        unknown += [line] if line else []
    return unknown


def leak_of(weights: Weights, judged: HeldOutPart, options: StoreOptions) -> tuple[TrainingData | None, str]:
    """Return the training data of a model that contain judged samples, and a line that describes them.

    The data are None, with a line, where it can't be determined; None with "" where the two are disjoint.
    """
    unknown: list[UnknownOverlap] = []
    try:
        for trained in trained_on(weights, options):
            try:
                if line := _leak(trained, judged, options):
                    return trained, line
            except UnknownOverlap as reason:  # of these data; other data may overlap for certain
                unknown.append(reason)
    except UnknownOverlap as reason:
        unknown.append(reason)
    if unknown:
        return None, f"whether {weights.url} was trained on what is judged on is not known: {unknown[0]}"
    return None, ""


def trained_on(weights: Weights, options: StoreOptions) -> list[TrainingData]:
    """Return the training data of these weights, at least one.

    Raises `UnknownOverlap` where neither a card, a summary nor the header of the file records them.
    """
    folder = open_store(weights.url.rpartition("/")[0] or ".", options)
    reason = UnknownOverlap("no card of it lies beside the weights, and their header doesn't record it")
    for name, read in (("card.json", _of_card), ("summary.json", _of_summary)):
        try:
            with suppress(NotFoundError, *_FOREIGN):
                found = json.loads(folder.get(name))
                if found["sha256"] == weights.sha256:
                    return read(found)
        except UnknownOverlap as silent:  # the header may still record it
            reason = silent
    with suppress(UnknownOverlap, *_FOREIGN):
        recipe = json.loads(read_metadata(weights.fetch(options), weights.url)["training"])
        return _of_recipe(recipe, {})
    raise reason


def _of_card(card: Mapping[str, Any]) -> list[TrainingData]:
    """Read a card of `curate proxy train`. Older cards have the URL as it was given."""
    recorded = card.get("trained_on")
    if recorded is None:
        recorded = {name: card[name] for name in ("data", "pool") if name in card}
    return _of_recipe(card["recipe"], recorded)


def _of_recipe(recipe: Mapping[str, Any], urls: Mapping[str, Any]) -> list[TrainingData]:
    split = HoldoutSplit(float(recipe["holdout"]), BY_NAME, int(recipe.get("holdout_rule", 1)))
    recorded = {name: (_text(urls.get(name)), _text(recipe.get(f"{name}_sha256"))) for name in ("data", "pool")}
    if recorded["pool"] == (None, None):
        del recorded["pool"]  # most models have none
    if set(recorded.values()) == {(None, None)}:
        raise UnknownOverlap("its card or header doesn't record the data")
    return [TrainingData(url, sha256, split) for url, sha256 in recorded.values()]


def _of_summary(summary: Mapping[str, Any]) -> list[TrainingData]:
    """Read a summary of `curate learn`. Earlier versions recorded no `split`."""
    recorded, recipe = summary.get("split"), summary["recipe"]
    kind = LEARNERS.get(next(iter(recipe["learner"])))
    split = HoldoutSplit(float(recipe.get("holdout", 0.05)), BY_NAME if kind is None else kind.holdout_unit, 1)
    if recorded:
        split = HoldoutSplit(float(recorded["share"]), str(recorded["grouping"]), int(recorded["rule"]))
    urls = summary["data"] if isinstance(summary["data"], list) else []
    if not urls:
        raise UnknownOverlap("its summary doesn't record the data")
    return [TrainingData(_text(url), None, split) for url in urls]


def _text(value: object) -> str | None:
    """Return a recorded URL or hash; None for anything else."""
    return value if isinstance(value, str) and value else None


def _leak(trained: TrainingData, judged: HeldOutPart, options: StoreOptions) -> str:
    """Describe the samples that a model was trained on and a run is judged on; "" for none."""
    ours, theirs = judged.split, trained.split
    alike = (ours.grouping, ours.rule) == (theirs.grouping, theirs.rule)
    if alike and 0 < ours.share <= theirs.share:
        return ""
    shared = _shared(trained, judged, options)
    if not shared:
        return ""
    held = f"the model held out {theirs.share:.0%} of the {theirs.grouping}s"
    if not ours.share:
        return f"{shared} ({held}, and the run is judged on all)"
    if theirs.share and ours.rule != theirs.rule:
        raise UnknownOverlap(f"{shared}, split by an earlier rule; train it again")
    if ours.grouping != theirs.grouping:
        return f"{shared} ({held}, and the run {ours.share:.0%} of the {ours.grouping}s)"
    return f"{shared} ({held}, and the run {ours.share:.0%})"


def _shared(trained: TrainingData, judged: HeldOutPart, options: StoreOptions) -> str:
    """Describe what the data of both share, held out or not; "" for nothing.

    Every source is compared before `UnknownOverlap` is raised for one that can't be.
    """
    for source in judged.sources:
        if trained.sha256 is not None and source.sha256 == trained.sha256:
            return f"it was trained on the same shards as are in {source.url}"
    if trained.url is None:
        raise UnknownOverlap("its card or header doesn't record where its data lie")
    try:
        data = resolve(trained.url, options)
    except TutelageError as error:
        raise UnknownOverlap(
            f"its data {trained.url} can't be listed any more ({str(error).splitlines()[0]})"
        ) from error
    failed: TutelageError | None = None
    for source in judged.sources:
        try:
            if found := overlap(data, source):
                return found
        except TutelageError as error:
            failed = error
    if failed is not None:
        raise UnknownOverlap(f"{trained.url} can't be compared with what is judged on ({str(failed).splitlines()[0]})")
    if trained.sha256 not in (None, data.sha256):
        raise UnknownOverlap(f"its data {trained.url} has changed since")
    return ""


def _fix(trained: TrainingData, judged: HeldOutPart) -> str:
    """Suggest another reference or evaluation, and the model's holdout where that is enough."""
    ours, theirs = judged.split, trained.split
    other = "another reference, or evaluation: URL of samples that it has not seen"
    if ours.grouping == theirs.grouping and ours.rule == theirs.rule and 0 < theirs.share < ours.share:
        return f"holdout: {theirs.share:g}, as the model's; {other}"
    return other


def models_of(fields: Any) -> Iterator[Weights]:
    """Yield the weights that a scorer's fields name: its own, and those of models nested in them."""
    if isinstance(fields, Mapping):
        if isinstance(fields.get("weights"), str) and isinstance(fields.get("sha256"), str):
            yield Weights(fields["weights"], fields["sha256"])
        for value in fields.values():
            yield from models_of(value)
