"""`curate proxy train --objective classes`: classifiers by folds, so that no sample is judged by a model that saw it.

The samples are read once, as many as fit into memory (2 GiB of pixels: 170,000 at 64 px, from all shards). Each run
divides their pictures into folds by a hash of the picture's bytes (`core.folds`) and trains a classifier for each fold
on the others. A finished classifier is a file with a record; a command that was killed and is repeated trains the
others alone. One file of all classifiers is written last, then its card.
Cost: runs * folds trainings of `steps` updates.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor

from curation import models
from curation.core import skipped
from curation.core.digest import canonical, digest
from curation.core.errors import EmptyCorpusError, LedgerError, NotFoundError, UserError
from curation.core.folds import fold_of
from curation.core.intervals import wilson
from curation.core.progress import progress
from curation.dataset.examples import gather_some
from curation.dataset.loader import CONTENT, SampleStream, split_label
from curation.dataset.sample_weights import ALIKE
from curation.evaluation.card import finished_card, identity_of, put_card
from curation.evaluation.job import TrainingJob
from curation.evaluation.pairs import Samples
from curation.evaluation.patch_folds import PatchFolds, most_pictures
from curation.learners.classification import ClassLearner, shared_labels
from curation.learners.learner import StepReport, train
from curation.learning.sources import resolve
from curation.ledger.documents import find
from curation.ledger.documents.learning import FoldRecord
from curation.models.batches import BUDGET, Examples, TrainingBatch
from curation.models.devices import pick_device, use_threads
from curation.models.fold_classifiers import FoldRule, folds_file
from curation.models.patch_config import PATCH_MODELS, classifier_config, classifier_preprocess
from curation.models.weights import tensors_to_bytes
from curation.storage.store import Store, StoreOptions, open_store
from curation.storage.urls import absolute_url

FOLDS_VERSION = 1  # of the code from settings to classifiers, beside that of trainings
LEAST = 2  # samples that make a label a class
JUDGED = 256  # pictures that a classifier judges at once


@dataclass(frozen=True, kw_only=True)
class FoldTraining:
    """The settings: those of a training, the field of the json with the label, and the rule of the folds."""

    job: TrainingJob
    label: str = "name"
    rule: FoldRule


class _Data(NamedTuple):
    """The samples in memory: pictures, content hashes, classes, and the class of each sample (-1 for none)."""

    examples: Examples
    contents: list[str]
    classes: list[str]
    targets: np.ndarray[Any, Any]


def run(settings: FoldTraining) -> dict[str, Any]:
    """Train what is missing and write `<model>-folds.safetensors` and `card.json`. Return the card.

    Raises `UserError` for an unknown model, too few samples or classes, or a loss that diverges.
    """
    job, rule = settings.job, settings.rule
    classifier_config(job.model)  # an unknown name fails before any data is read
    use_threads(job.threads)
    device = pick_device(job.device)
    source = resolve(absolute_url(job.data), job.options or StoreOptions())
    samples = Samples(source.shards, weights=source.weights if job.weighted else ALIKE)
    recipe = identity_of(job, {"data": samples}, device.type)
    recipe |= {"label": settings.label, "folds": rule._asdict(), "folds_version": FOLDS_VERSION, "least": LEAST}
    store = open_store(job.out, job.options)
    done = None if job.force else finished_card(job, digest(recipe))
    if done is not None:
        return {**done, "reused": True}
    began = time.monotonic()
    data, flaws = _read(settings, samples)
    folder = f"folds/{digest(recipe)[:16]}"
    config = PATCH_MODELS.get(job.model)
    patches = PatchFolds(config, data.examples.pixels, job.training.seed, device) if config is not None else None
    records: list[FoldRecord] = []
    classifiers: list[dict[str, Tensor]] = []
    for number in range(rule.runs * rule.folds):
        place = f"{folder}/{number // rule.folds}-{number % rule.folds}"
        found = None if job.force else _finished(store, place)
        record, tensors = found or _train(settings, data, number, device, store, place, patches)
        records.append(record)
        classifiers.append(tensors)
    about = {"training": canonical(recipe).decode()}
    contents = [text for text, target in zip(data.contents, data.targets, strict=True) if target >= 0]
    file = folds_file(job.model, data.classes, rule, classifiers, contents, about)
    key = f"{job.model}-folds.safetensors"
    store.put(key, file)
    seconds, steps = time.monotonic() - began, 0 if patches else job.training.steps * len(records)
    return put_card(job, store, {
        "identity": digest(recipe), "model": job.model, "weights": store.location(key), "key": key,
        "sha256": sha256(file).hexdigest(), "bytes": len(file), "data": source.url, "label": settings.label,
        "classes": data.classes, **rule._asdict(), "parameters": _parameters(job.model),
        "samples": {"train": int((data.targets >= 0).sum()), "held_out": 0},
        "no_class": int((data.targets < 0).sum()), "skipped": dict(flaws), "recipe": recipe,
        "steps": steps, "samples_per_second": round(steps * job.training.batch / max(seconds, 1e-9)),
        "seconds": {"training": round(seconds, 1), "all": round(seconds, 1)},
        "evaluation": _evaluation(data, records[: rule.folds]),
    })  # fmt: skip


def _evaluation(data: _Data, records: list[FoldRecord]) -> dict[str, Any]:
    """Return the share of samples whose label is the most likely class, with its interval. records: of the first run.

    Further runs judge the same samples: counted together, they would make the interval too narrow.
    """
    hits, judged = sum(one.hits for one in records), sum(one.judged for one in records)
    return {"out_of_fold": asdict(wilson(hits, judged, 1 / len(data.classes)))}


def _read(settings: FoldTraining, samples: Samples) -> tuple[_Data, dict[str, int]]:
    model = settings.job.model
    view, most = classifier_preprocess(model), most_pictures(PATCH_MODELS[model]) if model in PATCH_MODELS else BUDGET
    stream = SampleStream(
        samples.shards, size=view.size, mode=view.mode, shuffle=0, seed=settings.job.training.seed,
        label=(settings.label, CONTENT), weights=samples.weights,
    )  # fmt: skip
    with progress("Reading the data", None) as advance:
        examples, flaws = gather_some(stream, most, advance, settings.job.origins)
    pairs = [split_label(label) for label in examples.labels]
    labels, contents = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    try:
        classes = shared_labels(labels, LEAST)
    except EmptyCorpusError as error:
        text = f"{settings.job.data}: {error} (field `{settings.label}`; skipped: {skipped.summary(flaws)})"
        raise EmptyCorpusError(text, fix="name the json field that holds the label: --label") from None
    index = {name: number for number, name in enumerate(classes)}
    targets = np.array([index.get(label, -1) for label in labels], np.int64)
    return _Data(examples, contents, classes, targets), dict(flaws)


def _finished(store: Store, place: str) -> tuple[FoldRecord, dict[str, Tensor]] | None:
    """Return a classifier that an earlier command finished; None where it is missing or damaged."""
    try:
        record = find(store, f"{place}.json", FoldRecord, "")
        data = store.get(record.key) if record is not None else b""
    except (NotFoundError, LedgerError, UserError):
        return None
    if record is None or sha256(data).hexdigest() != record.sha256:
        return None
    return record, load(data)


def _train(
    settings: FoldTraining, data: _Data, number: int, device: torch.device, store: Store, place: str,
    patches: PatchFolds | None,
) -> tuple[FoldRecord, dict[str, Tensor]]:  # fmt: skip
    """Train one classifier on the other folds, judge its own fold, and write file and record."""
    job, (run, fold) = settings.job, divmod(number, settings.rule.folds)
    own = np.array([fold_of(text, settings.rule.folds, run) == fold for text in data.contents], bool)
    known = data.targets >= 0
    rows, held_out = np.flatnonzero(known & ~own), np.flatnonzero(known & own)
    if len(rows) < job.training.batch:
        text = f"{job.data} has {len(rows)} samples outside of fold {fold}, and a batch takes {job.training.batch}"
        raise EmptyCorpusError(text, fix="more data, fewer folds, or a smaller --batch")
    if patches is not None:
        with progress(f"Fitting run {run + 1} of {settings.rule.runs}, fold {fold + 1} of {settings.rule.folds}", None):
            tensors, loss = patches.fit(run, rows, data.targets[rows], len(data.classes))
        hits = int((patches.guess(run, held_out, tensors) == data.targets[held_out]).sum())
    else:
        tensors, loss, hits = _learned(settings, data, number, device, rows, held_out)
    file = tensors_to_bytes(tensors, {"format": "pt", "model": job.model, "classes": json.dumps(data.classes)})
    store.put(f"{place}.safetensors", file)
    record = FoldRecord(
        key=f"{place}.safetensors", sha256=sha256(file).hexdigest(), bytes=len(file),
        hits=hits, judged=len(held_out), loss=loss,
    )  # fmt: skip
    store.put(f"{place}.json", canonical(record.to_json()))
    return record, tensors


def _learned(
    settings: FoldTraining, data: _Data, number: int, device: torch.device, rows: np.ndarray[Any, Any],
    held_out: np.ndarray[Any, Any],
) -> tuple[dict[str, Tensor], float, int]:  # fmt: skip
    """Train a classifier by steps on `rows`. Returns its weights, its last loss, and its hits among `held_out`."""
    job, (run, fold) = settings.job, divmod(number, settings.rule.folds)
    training = replace(job.training, seed=job.training.seed + run)
    learner, losses = ClassLearner(job.model, data.classes, training, device), [0.0]

    def on_step(report: StepReport) -> None:
        advance(1)
        losses[0] = report.loss.item()
        if not losses[0] < float("inf"):
            fix = f"a lower --lr than {training.lr}"
            raise UserError(f"the loss is {losses[0]} at step {report.step} of fold {fold}", fix=fix)

    label = f"Training run {run + 1} of {settings.rule.runs}, fold {fold + 1} of {settings.rule.folds}"
    with progress(label, training.steps, "steps") as advance:
        train(learner, islice(_batches(data, rows, training.batch, training.seed), training.steps), on_step)
    tensors = learner.tensors()
    learner.module.load_state_dict(tensors)
    return tensors, losses[0], _hits(learner, data, held_out)


def _parameters(model: str) -> int:
    """Return the number of a tower's parameters."""
    if model in PATCH_MODELS:
        config = PATCH_MODELS[model]
        return config.patterns * (3 * config.patch**2 + 1)
    return models.cost(model).parameters


def _batches(data: _Data, rows: np.ndarray[Any, Any], size: int, seed: int) -> Iterator[TrainingBatch]:
    """Yield batches without end: every row once an epoch, in a new random order; a rest begins the next epoch."""
    random = np.random.default_rng(seed)
    held = np.zeros(0, np.int64)
    while True:
        while len(held) < size:
            held = np.concatenate([held, random.permutation(rows)])
        some, held = held[:size], held[size:]
        yield TrainingBatch(torch.from_numpy(data.examples.pixels[some]), torch.from_numpy(data.targets[some]))


def _hits(learner: ClassLearner, data: _Data, rows: np.ndarray[Any, Any]) -> int:
    found = 0
    for start in range(0, len(rows), JUDGED):
        some = rows[start : start + JUDGED]
        guess = learner.logits(torch.from_numpy(data.examples.pixels[some])).argmax(1).cpu().numpy()
        found += int((guess == data.targets[some]).sum())
    return found


def report(card: dict[str, Any]) -> str:
    """Format a card for a person: a few lines."""
    what = f"{card['runs']} x {card['folds']} classifiers of {len(card['classes'])} classes"
    head = f"{card['model']}  {what}"
    head += "  (already trained: nothing done; --force trains again)" if card["reused"] else ""
    rate = card["evaluation"]["out_of_fold"]
    share = f"{rate['rate']:.3f} ({rate['low']:.3f} to {rate['high']:.3f}; by chance {rate['chance']:.3f})"
    lines = [head, f"  label is the most likely class, out of fold: {share} of {rate['total']:,}"]
    if card["no_class"]:
        lines.append(f"  {card['no_class']:,} samples left out: no label, or a label of one sample")
    files = [f"weights  {card['weights']}", f"sha256   {card['sha256']}"]
    return "\n".join([*lines, *skipped.lines(card["skipped"]), *files])
