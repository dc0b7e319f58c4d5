"""What `proxy train` and `learn` share: data into memory, the loop with its progress, evaluation, files, a card.

Imports torch; the commands import it when they run. A run is named by all that decides its weights (`identity`); one
that is finished is not repeated.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

import torch

from curation import models
from curation.core import skipped
from curation.core.digest import digest
from curation.core.errors import LedgerError, NotFoundError, UserError
from curation.core.holdout import HOLDOUT_RULE
from curation.core.progress import progress
from curation.dataset.examples import gather_some
from curation.dataset.loader import ListedShard, Part, SampleStream
from curation.dataset.open_shards import open_shards
from curation.dataset.sample_weights import ALIKE
from curation.evaluation.pairs import PreparedPairs, Samples, read_pairs, side_by_side
from curation.learners.contrastive import ClipLearner
from curation.learners.learner import StepReport, train
from curation.learners.training import Training
from curation.learning.prices import training_flops, trimmed
from curation.learning.sources import listing_sha256, pinned, weights_of
from curation.ledger.documents import read_json
from curation.ledger.documents.learning import Card
from curation.models.architecture import config_path
from curation.models.batches import Examples, TrainingBatch
from curation.models.devices import pick_device
from curation.models.retrieval import MAX_EVALUATED, evaluate
from curation.models.weights import tensors_to_bytes
from curation.shards.images import IMAGE_CODE_VERSION, DecodeLimits
from curation.storage.store import Store, StoreOptions, open_store
from curation.storage.urls import absolute_url

TRAINING_VERSION = 3  # of what weights come of one recipe: raise it where learner, order or preparation change
LOG_EVERY = 10  # steps between two lines of metrics


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """One training: what to train on what, and where to put it."""

    data: str
    model: str
    out: str
    training: Training
    pool: str | None = None  # half of each batch is drawn from here: the objective `dfn`
    holdout: float = 0.05
    evaluation: str | None = None  # another URL to evaluate on; None: the held-out part of `data`
    evaluated: bool = True  # False: not here; whoever asked does it
    streamed: bool = False  # from shards, even what would fit into memory: as others are that are compared with it
    shared: bool = False  # `out` is named by all that decides the weights, and others may be at it too
    device: str = "auto"
    threads: int = 0  # 0: one a core, at most 8
    weighted: bool = True  # samples of a snapshot as often as they weigh
    force: bool = False
    options: StoreOptions | None = None

    @property
    def sources(self) -> dict[str, str]:
        """What it trains on, by name: `data`, and `pool` if there is one."""
        return {"data": self.data} | ({"pool": self.pool} if self.pool else {})


@dataclass
class MetricsLog:
    """Metrics as lines of JSON, gathered while training."""

    lines: list[str] = field(default_factory=list)

    def write(self, **values: Any) -> None:
        self.lines.append(json.dumps(values))


def run(job: TrainingJob, samples: Samples | None = None) -> dict[str, Any]:
    """Train, evaluate, write `<model>.safetensors`, `card.json`, `metrics.jsonl`, `<model>.json`; returns the card.

    `samples`: what to train on, where that is not all of `job.data`, which then only names it.
    """
    models.model_config(job.model)  # an unknown name should not cost reading the data
    use_threads(job.threads)
    device = pick_device(job.device)
    given = {} if samples is None else {"data": samples}
    sources = {name: given.get(name) or _all_of(job, url) for name, url in job.sources.items()}
    recipe = recipe_of(job, sources, device.type)
    store = open_store(job.out, job.options)
    done = None if job.force else _finished(job, digest(recipe))
    if done is not None:
        return {**done, "reused": True}

    began = time.monotonic()
    part: Part = "train" if job.holdout else "all"
    pairs = {name: _read(job, f"Reading the {name}", url, sources[name], part) for name, url in job.sources.items()}
    held_out, flaws = _held_out(job, sources["data"])
    log = MetricsLog()
    learner, lengths = ClipLearner(job.model, job.training, device), Counter[int]()
    trained = time.monotonic()
    _loop(job, learner, _batches(job, pairs), log, lengths)
    seconds = time.monotonic() - trained
    results = evaluate(learner.encoder(), held_out) if held_out else {}
    log.write(step=learner.steps, evaluation=results)

    files = _put_files(job, store, recipe, learner, log)
    # The part that is held out of the same samples has met the same flaws again.
    skipped = [some.stream.skipped for some in pairs.values()] + ([flaws] if job.evaluation is not None else [])
    card = {
        "identity": digest(recipe),
        "model": job.model,
        **files,
        "parameters": models.cost(job.model).parameters,
        **job.sources,
        "trained_on": {
            name: pinned(absolute_url(url), job.options or StoreOptions())
            for name, url in job.sources.items()
            if name not in given
        },
        "samples": {"train": pairs["data"].count, "held_out": len(held_out)},
        "skipped": dict(sum(skipped, Counter[str]())),
        "recipe": recipe,
        "steps": learner.steps,
        "flops": _flops(job, lengths),
        "samples_per_second": round(learner.steps * job.training.batch / max(seconds, 1e-9)),
        "seconds": {"training": round(seconds, 1), "all": round(time.monotonic() - began, 1)},
        "evaluation": results,
    }
    return _put_card(job, store, card)


def _flops(job: TrainingJob, lengths: Counter[int]) -> dict[str, Any]:
    """What the training has cost, as the summary of a run of `curate learn` has it."""
    less = trimmed(job.model)
    whole = training_flops(job.model, job.training, text=True) * lengths.total()
    learning = 3 * (whole - sum(less.get(length, 0.0) * captions for length, captions in lengths.items()))
    return {"parts": {"learning": learning}, "totals": {"full": learning}, "captions": "trimmed"}


def _put_files(
    job: TrainingJob, store: Store, recipe: dict[str, Any], learner: ClipLearner, log: MetricsLog
) -> dict[str, Any]:
    """Weights, what the model is, and metrics; returns what a card says of the weights."""
    metadata = {"format": "pt", "model": job.model, "training": json.dumps(recipe, sort_keys=True)}
    metadata["preprocess"] = json.dumps(asdict(models.preprocess_for(job.model)), sort_keys=True)
    data = tensors_to_bytes(learner.tensors(), metadata)
    name = sha256(data).hexdigest()
    own = f"-{name[:16]}" if job.shared else ""  # whoever comes second changes no file of the first
    key = f"{job.model}{own}.safetensors"
    store.put(key, data)
    store.put(f"{job.model}.json", config_path(job.model).read_bytes())
    store.put(f"metrics{own}.jsonl", ("\n".join(log.lines) + "\n").encode())
    return {"weights": store.location(key), "key": key, "sha256": name, "bytes": len(data)}


def _put_card(job: TrainingJob, store: Store, card: dict[str, Any]) -> dict[str, Any]:
    """The last of all: its presence says that the run is whole. Returns the card that holds."""
    text = json.dumps(card, indent=2).encode()
    if job.shared and not store.create("card.json", text) and (first := _finished(job, card["identity"])):
        return {**first, "reused": True}  # of another machine: its weights may differ in their last bits
    store.put("card.json", text)
    return {**card, "reused": False}


def use_threads(wanted: int) -> int:
    """Set torch's threads: as many as wanted; 0: one a core, at most 8. Part of what decides weights on a CPU."""
    threads = threads_of(wanted)
    torch.set_num_threads(threads)
    return threads


def threads_of(wanted: int) -> int:
    """What `use_threads` sets."""
    return wanted or min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)


def recipe_of(job: TrainingJob, sources: Mapping[str, Samples], device: str) -> dict[str, Any]:
    """All that decides the weights, on a type of device. Shards by content, so that a copied corpus gives the same."""
    recipe = {
        "version": [TRAINING_VERSION, IMAGE_CODE_VERSION],
        "model": job.model,
        "config": models.model_config(job.model),
        **{f"{name}_sha256": listing_sha256(some.shards) for name, some in sources.items()},
        "training": asdict(job.training),
        "holdout": job.holdout,
        "evaluation": job.evaluation,
        "device": device,
        "threads": threads_of(job.threads) if device == "cpu" else 0,
    }
    if job.holdout:
        recipe["holdout_rule"] = HOLDOUT_RULE
    if job.streamed:
        recipe["streamed"] = True
    samples = sources["data"]
    if samples.subset is not None:
        recipe["subset"] = samples.subset._asdict()
    own = next((shard.limits for shard in samples.shards if shard.limits is not None), DecodeLimits())
    if (limits := samples.limits or own) != DecodeLimits():
        recipe["limits"] = asdict(limits)
    for name, some in sources.items():
        if some.weights:
            recipe[f"{name}_weights"] = some.weights.sha256
    return recipe


def _all_of(job: TrainingJob, url: str) -> Samples:
    weights = weights_of(url, job.options) if job.weighted else ALIKE
    return Samples(open_shards(url, job.options), weights=weights)


def _finished(job: TrainingJob, identity: str) -> dict[str, Any] | None:
    """The card of a run like this one, if it lies at `out` with its weights."""
    store = open_store(job.out, job.options)
    try:
        card = read_json(store, "card.json", Card, "")
        if card["identity"] != identity or store.head(card["key"]).size != card["bytes"]:
            return None
    except (NotFoundError, LedgerError, UserError):  # there is none, or it is damaged: the model is trained again
        return None
    return card


def _read(job: TrainingJob, label: str, url: str, samples: Samples, part: Part) -> PreparedPairs:
    return read_pairs(
        label, url, samples, model=job.model, part=part, holdout=job.holdout, seed=job.training.seed,
        streamed=job.streamed,
    )  # fmt: skip


def _held_out(job: TrainingJob, samples: Samples) -> tuple[Examples, Counter[str]]:
    """What the result is judged by: nothing, where it is not here or there is none."""
    if not job.evaluated or (job.evaluation is None and not job.holdout):
        samples = samples._replace(shards=())
    elif job.evaluation is not None:
        samples = Samples(open_shards(job.evaluation, job.options))
    return read_held_out(samples, job.model, job.holdout)


def read_held_out(samples: Samples, model: str, share: float) -> tuple[Examples, Counter[str]]:
    """The held-out samples that are looked at, in memory, and how many were skipped, by reason."""
    part: Part = "held_out" if share else "all"

    def stream_of(shards: list[ListedShard]) -> SampleStream:
        return samples._replace(shards=shards).stream(model, part=part, holdout=share)

    with progress("Reading the held-out part", None) as advance:
        return gather_some(samples.shards, stream_of, MAX_EVALUATED, advance)


def _batches(job: TrainingJob, pairs: dict[str, PreparedPairs]) -> Iterator[TrainingBatch]:
    """The place of a selector: whatever yields batches can stand here. This one is uniform sampling, half of a pool."""
    size = job.training.batch
    if "pool" not in pairs:
        return pairs["data"].batches(size)
    return side_by_side(pairs["data"].batches(size - size // 2), pairs["pool"].batches(size // 2))


def _loop(
    job: TrainingJob, learner: ClipLearner, batches: Iterator[TrainingBatch], log: MetricsLog, lengths: Counter[int]
) -> None:
    """Train; `lengths` counts the captions by the length that was computed."""
    began = time.monotonic()

    def on_step(report: StepReport) -> None:
        advance(1)
        lengths.update(report.text_lengths)
        if report.step % LOG_EVERY and report.step not in (1, job.training.steps):
            return
        loss = report.loss.item()
        if not loss < float("inf"):
            raise UserError(f"the loss is {loss} at step {report.step}", fix=f"a lower --lr than {job.training.lr}")
        rate = report.step * job.training.batch / (time.monotonic() - began)
        norm = round(report.gradient_norm.item(), 4)
        log.write(
            step=report.step, loss=round(loss, 5), lr=report.lr, gradient_norm=norm, samples_per_second=round(rate)
        )

    with progress(f"Training {job.model}", job.training.steps, "steps") as advance:
        train(learner, batches, on_step)


def report(card: dict[str, Any]) -> str:
    """The card for a person: a few lines."""
    lines = [f"{card['model']}  {card['parameters'] / 1e6:.1f} M parameters, {card['steps']:,} steps"]
    if card["reused"]:
        lines[0] += "  (already trained: nothing done; --force trains again)"
    else:
        lines[0] += f" in {card['seconds']['training']:.0f} s ({card['samples_per_second']:,} samples/s)"
    found = card["evaluation"]
    for name, rate in found.get("retrieval", {}).items():
        lines.append(f"  {name:<14} {_rate(rate)}")
    if "zero_shot" in found:
        lines.append(f"  {'zero-shot':<14} {_rate(found['zero_shot'])}, {found['zero_shot']['classes']} classes")
    return "\n".join(
        [*lines, *skipped.lines(card["skipped"]), f"weights  {card['weights']}", f"sha256   {card['sha256']}"]
    )


def _rate(rate: dict[str, float]) -> str:
    interval = f"{rate['low']:.3f} to {rate['high']:.3f}; by chance {rate['chance']:.4f}"
    return f"{rate['rate']:.3f}  ({interval}) of {rate['total']:,}"
