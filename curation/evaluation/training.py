"""One CLIP training with uniform sampling: read the data, train, evaluate, write weights and card.

`curate proxy train`, `curate learn SNAPSHOT` and each model of an evaluation run this. Training on chosen sub-batches
is in `curation.learning`.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from curation import models
from curation.core.digest import digest
from curation.core.errors import UserError
from curation.core.origins import TRUSTED
from curation.core.progress import progress
from curation.dataset.examples import gather_some
from curation.dataset.loader import ORIGIN_REASON, Part
from curation.dataset.open_shards import open_shards
from curation.dataset.sample_weights import ALIKE
from curation.evaluation.card import finished_card, identity_of, put_card, put_files
from curation.evaluation.job import TrainingJob
from curation.evaluation.pairs import PreparedPairs, Samples, read_pairs, side_by_side
from curation.learners.contrastive import ClipLearner
from curation.learners.learner import StepReport, train
from curation.learning.model_flops import training_flops, trimmed
from curation.learning.sources import resolve
from curation.models.batches import Examples, TrainingBatch
from curation.models.devices import pick_device, use_threads
from curation.models.retrieval import MAX_EVALUATED, evaluate
from curation.storage.store import StoreOptions, open_store
from curation.storage.urls import absolute_url

LOG_EVERY = 10  # steps between two lines of metrics


@dataclass
class MetricsLog:
    """Metrics of a training, as lines of JSON."""

    lines: list[str] = field(default_factory=list)

    def write(self, **values: Any) -> None:
        """Append a line."""
        self.lines.append(json.dumps(values))


def run(job: TrainingJob, samples: Samples | None = None) -> dict[str, Any]:
    """Train, evaluate, and write `<model>.safetensors`, `card.json`, `metrics.jsonl` and `<model>.json`.

    samples: to train on, where they aren't all of `job.data`, which then only names them.
    Returns the card, with `reused` if the training was finished already.
    Raises `UserError` for an unknown model, too few samples, or a loss that diverges.
    """
    models.model_config(job.model)  # an unknown name fails before any data is read
    use_threads(job.threads)
    device = pick_device(job.device)
    given = {} if samples is None else {"data": samples}
    options = job.options or StoreOptions()
    resolved = {name: resolve(absolute_url(url), options) for name, url in job.sources.items() if name not in given}
    sources = {
        name: given.get(name)
        or Samples(resolved[name].shards, weights=resolved[name].weights if job.weighted else ALIKE)
        for name in job.sources
    }
    recipe = identity_of(job, sources, device.type)
    store = open_store(job.out, job.options)
    done = None if job.force else finished_card(job, digest(recipe))
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

    files = put_files(job, store, recipe, learner, "\n".join(log.lines) + "\n")
    # Samples that are held out of `data` have the flaws of `data`, which are counted already, except for their origins.
    own = flaws if job.evaluation is not None else _of_origins(flaws)
    skipped = [some.stream.skipped for some in pairs.values()] + [own]
    card = {
        "identity": digest(recipe),
        "model": job.model,
        **files,
        "parameters": models.cost(job.model).parameters,
        **job.sources,
        "trained_on": {name: source.url for name, source in resolved.items()},
        "samples": {"train": pairs["data"].count, "held_out": len(held_out)},
        "skipped": dict(sum(skipped, Counter[str]())),
        "recipe": recipe,
        "steps": learner.steps,
        "flops": _flops(job, lengths),
        "samples_per_second": round(learner.steps * job.training.batch / max(seconds, 1e-9)),
        "seconds": {"training": round(seconds, 1), "all": round(time.monotonic() - began, 1)},
        "evaluation": results,
    }
    return put_card(job, store, card)


def _flops(job: TrainingJob, lengths: Counter[int]) -> dict[str, Any]:
    """Return the FLOPs of the training, in the format of a run's summary."""
    less = trimmed(job.model)
    whole = training_flops(job.model, job.training, text=True) * lengths.total()
    learning = 3 * (whole - sum(less.get(length, 0.0) * captions for length, captions in lengths.items()))
    return {"parts": {"learning": learning}, "totals": {"full": learning}, "captions": "trimmed"}


def _read(job: TrainingJob, label: str, url: str, samples: Samples, part: Part) -> PreparedPairs:
    return read_pairs(
        label, url, samples, model=job.model, part=part, holdout=job.holdout, seed=job.training.seed,
        streamed=job.streamed,
    )  # fmt: skip


def _held_out(job: TrainingJob, samples: Samples) -> tuple[Examples, Counter[str]]:
    """Read the held-out samples: none where the caller evaluates, or nothing is held out."""
    if not job.evaluated or (job.evaluation is None and not job.holdout):
        samples = samples._replace(shards=())
    elif job.evaluation is not None:
        samples = Samples(open_shards(job.evaluation, job.options))
    return read_held_out(samples, job.model, job.holdout, job.origins)


def _of_origins(skipped: Counter[str]) -> Counter[str]:
    """Return the samples that are skipped for their origin alone."""
    return Counter({reason: count for reason, count in skipped.items() if reason.startswith(ORIGIN_REASON)})


def read_held_out(
    samples: Samples, model: str, share: float, origins: Sequence[str] = TRUSTED
) -> tuple[Examples, Counter[str]]:
    """Read at most `MAX_EVALUATED` held-out samples into memory, decoded for `model`.

    share: of the names that are held out; 0 reads all samples. origins: those of the samples that are read. Also
    returns skipped samples by reason.
    """
    part: Part = "held_out" if share else "all"
    with progress("Reading the held-out part", None) as advance:
        return gather_some(samples.stream(model, part=part, holdout=share), MAX_EVALUATED, advance, origins)


def _batches(job: TrainingJob, pairs: dict[str, PreparedPairs]) -> Iterator[TrainingBatch]:
    """Yield uniformly drawn batches without end; with a pool, half of each batch comes from it."""
    size = job.training.batch
    if "pool" not in pairs:
        return pairs["data"].batches(size)
    return side_by_side(pairs["data"].batches(size - size // 2), pairs["pool"].batches(size // 2))


def _loop(
    job: TrainingJob, learner: ClipLearner, batches: Iterator[TrainingBatch], log: MetricsLog, lengths: Counter[int]
) -> None:
    """Train; `lengths` counts captions by the length in tokens at which they were computed."""
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
