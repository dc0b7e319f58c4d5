"""Models judged on a labelled evaluation set, under several labellings: does cleaning the labels change their order?

Each model gives every sample one of the classes that all models know, once. Labellings then cost a comparison of
strings (`model_order`), so that labels before and after a review, and a truth where it is known, are compared on equal
samples. Samples of other origins than real and relabelled are left out unless they are named.
Cost: one read of the samples for each size of pictures, and an image pass a sample and model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.core.errors import UserError
from curation.core.origins import TRUSTED
from curation.core.progress import progress
from curation.core.skipped import summary
from curation.dataset.examples import gather_some
from curation.dataset.loader import CONTENT, SEPARATOR, Part, SampleStream
from curation.evaluation.judges import Judge, View, open_judge
from curation.evaluation.labellings import NO_GUESS, Labelling, Relabelled, relabelled, restrict
from curation.evaluation.model_order import model_order
from curation.learning.sources import RunData, resolve
from curation.models.batches import BUDGET, Examples
from curation.models.devices import pick_device, use_threads
from curation.storage.store import StoreOptions
from curation.storage.urls import absolute_url

MAX_LABELLED = 50_000  # samples that are judged: +-0.4 points at an accuracy of 0.5
STALE_SHOWN = 20  # stale edits that a report lists
_TABLE_VIEW = View(32, "shortest")  # of models that need no picture: the smallest that costs no accuracy


@dataclass(frozen=True, kw_only=True)
class LabelEvaluation:
    """What is asked: models by name, the evaluation set, and the labellings of the field `label`.

    against: URL of shards or of a snapshot. holdout: the share of names to judge on; 0 for all samples.
    origins: those of the samples to judge on.
    """

    models: Mapping[str, str]
    against: str
    labellings: Sequence[Labelling]
    label: str = "name"
    holdout: float = 0.0
    origins: Sequence[str] = TRUSTED
    device: str = "auto"
    threads: int = 1
    options: StoreOptions | None = None


def evaluate_labels(asked: LabelEvaluation) -> dict[str, Any]:
    """Judge models under each labelling; return a JSON object.

    That of `model_order`, with `held_out`, `label`, `classes`, the kind and sha256 of each model, and of each labelling
    its edit lists, the replaced labels, stale and unknown edits, and the samples that are left out.
    Raises `UserError` for a model, an edit list or an evaluation set that can't be used.
    """
    device = pick_device(asked.device)
    use_threads(asked.threads)
    edits = {one.name: one.edits(asked.options) for one in asked.labellings}
    judges = {name: open_judge(url, device, asked.options) for name, url in asked.models.items()}
    source = resolve(absolute_url(asked.against), asked.options or StoreOptions())
    views = {judge.view or _TABLE_VIEW for judge in judges.values()}
    limit = min(MAX_LABELLED, *(BUDGET // (len(views) * view.size**2 * 3) for view in views))
    parts = {view: _read(asked, source, view, limit) for view in sorted(views)}
    uids, stored = _shared(parts.values(), source.url, asked.label)
    labels = {name: relabelled(uids, stored, table, asked.label) for name, table in edits.items()}
    classes = _classes(judges, labels)
    guesses = _judged(judges, parts, uids, classes)
    for found in labels.values():
        restrict(found, classes)
    order = model_order(guesses, {name: found.labels for name, found in labels.items()}, len(classes))
    lists = {one.name: one.lists for one in asked.labellings}
    return {
        "held_out": {
            "url": source.url, "share": asked.holdout, "samples": len(uids), "origins": list(asked.origins),
            "skipped": dict(next(iter(parts.values()))[1]),
        },
        "label": asked.label,
        "classes": len(classes),
        **order,
        "labellings": {
            name: _document(counted, labels[name], lists[name]) for name, counted in order["labellings"].items()
        },
        "models": {
            name: {"kind": judges[name].kind, "url": judges[name].url, "sha256": judges[name].sha256, "labels": by}
            for name, by in order["models"].items()
        },
    }  # fmt: skip


def _document(counted: Mapping[str, int], found: Relabelled, lists: Sequence[str]) -> dict[str, Any]:
    """Return the counts of a labelling: samples + left_out = the samples that were read."""
    without = {NO_GUESS: counted["no_guess"]} if counted["no_guess"] else {}
    return {
        "samples": counted["samples"], "left_out": found.left_out | without,
        "edits": list(lists), "replaced": found.replaced, "unknown": found.unknown,
        "stale": {"count": len(found.stale), "examples": found.stale[:STALE_SHOWN]},
    }  # fmt: skip


def _read(asked: LabelEvaluation, source: RunData, view: View, limit: int) -> tuple[Examples, Counter[str]]:
    """Read the samples as models of one view see them. Their labels are content hash and label, joined."""
    part: Part = "held_out" if asked.holdout else "all"
    stream = SampleStream(
        source.shards, size=view.size, mode=view.mode, shuffle=0, part=part, holdout=asked.holdout,
        label=(CONTENT, asked.label),
    )  # fmt: skip
    with progress("Reading the labelled samples", None) as advance:
        return gather_some(stream, limit, advance, asked.origins)


def _shared(parts: Iterable[tuple[Examples, Counter[str]]], url: str, label: str) -> tuple[list[str], list[str]]:
    """Return uids and stored labels of the samples that every view has, each once."""
    (first, flaws), *others = parts
    found = {uid: text.partition(SEPARATOR)[2] for uid, text in zip(first.uids, first.labels, strict=True)}
    for examples, _ in others:
        present = set(examples.uids)
        found = {uid: text for uid, text in found.items() if uid in present}
    if not any(found.values()):
        text = f"{url} has {len(found):,} samples, none with a label in the json field {label!r}"
        raise UserError(f"{text} (skipped: {summary(flaws)})", fix="name the field of the label: --label")
    return list(found), list(found.values())


def _classes(judges: Mapping[str, Judge], labels: Mapping[str, Relabelled]) -> list[str]:
    """Return the classes that all models know, sorted; where all take any, the labels of the samples."""
    named = [set(judge.classes) for judge in judges.values() if judge.classes]
    given = [{label for label in found.labels if label is not None} for found in labels.values()]
    classes = sorted(set.intersection(*named) if named else set.union(*given))
    if len(classes) < 2:
        text = f"the models have {len(classes)} classes in common, and a comparison needs 2"
        raise UserError(text, fix="compare models of the same labels")
    return classes


def _judged(
    judges: Mapping[str, Judge], parts: Mapping[View, tuple[Examples, Counter[str]]], uids: Sequence[str],
    classes: Sequence[str],
) -> dict[str, list[str | None]]:  # fmt: skip
    """Let every model judge the samples, in the order of `uids`."""
    guesses: dict[str, list[str | None]] = {}
    with progress("Judging", len(judges), "models") as tick:
        for name, judge in judges.items():
            examples, _ = parts[judge.view or _TABLE_VIEW]
            if examples.uids != uids:  # a sample that another view has not, or that occurs twice
                rows = {uid: row for row, uid in reversed(list(enumerate(examples.uids)))}
                examples = examples.take([rows[uid] for uid in uids])
            contents = [text.partition(SEPARATOR)[0] for text in examples.labels]
            guesses[name] = judge.guesses(examples, contents, classes)
            tick(1)
    return guesses
