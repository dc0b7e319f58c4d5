"""One model of an evaluation: what it is trained on, how, what it is judged on, and what came of it, kept for good.

    <runs>/<run>/                                 weights and card of a training, named by all that decides them
    <runs>/<run>/evaluations/<held-out>.json      how good it is on held-out samples, create-only
    <runs>/parts/<part>.json                      with names held out: how large parts are, and which part a seed draws

So the same model is never trained twice, whoever asks, and other held-out samples cost no training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from safetensors.torch import load

from curation.core.digest import canonical, digest
from curation.core.errors import NotFoundError, UserError
from curation.core.holdout import HOLDOUT_RULE
from curation.core.progress import progress
from curation.core.skipped import summary
from curation.dataset import snapshot as snapshots
from curation.dataset.evaluations import ANEW, CURATED, Document, figures
from curation.dataset.open_shards import open_shards
from curation.dataset.random_subset import Subset, TrainingParts, parts, parts_without, source_shards
from curation.dataset.sample_weights import ALIKE
from curation.dataset.snapshot import Snapshot
from curation.evaluation.pairs import Samples
from curation.evaluation.training import TrainingJob, read_held_out, recipe_of, run, use_threads
from curation.learning.prices import training_flops
from curation.learning.sources import listing_sha256, pinned
from curation.ledger.documents import find, read_json
from curation.ledger.documents.learning import Figures, PartDraw, PartSizes
from curation.ledger.named_objects import read_named
from curation.models.architecture import build_model
from curation.models.batches import Examples
from curation.models.devices import pick_device
from curation.models.dual import DualEncoder, load_tensors
from curation.models.retrieval import EVALUATION_VERSION, MAX_EVALUATED, evaluate
from curation.storage.store import StoreOptions, open_store
from curation.storage.urls import absolute_url


class HeldOut(NamedTuple):
    """What models are judged on: the samples of `url`; with a `share`, those of that share of its names, on which then
    no model is trained."""

    url: str  # of a snapshot with its number
    share: float
    sha256: str  # of the listing

    @property
    def id(self) -> str:
        return digest([self.sha256, self.share, MAX_EVALUATED, EVALUATION_VERSION])


class Trial(NamedTuple):
    """One model. Small, because it travels to a worker."""

    snapshot: str  # URL@N
    arm: str
    subset: Subset | None
    job: TrainingJob
    held_out: HeldOut

    @property
    def name(self) -> str:
        """All that decides the weights."""
        return self.job.out.rpartition("/")[2]

    @property
    def key(self) -> str:
        """Of its figures, below `job.out`."""
        return f"evaluations/{self.held_out.id}.json"

    def found(self) -> Document | None:
        """Its figures, if they are there."""
        try:
            return read_json(open_store(self.job.out), self.key, Figures, ANEW)
        except NotFoundError:
            return None


def trial(snapshot: str, arm: str, subset: Subset | None, job: TrainingJob, held_out: HeldOut, runs: str) -> Trial:
    """The model of an arm, or of a part of its samples, to be kept below `runs`. Trains nothing."""
    name = digest(recipe_of(job, {"data": _samples(snapshot, arm, subset)}, job.device))
    return Trial(snapshot, arm, subset, replace(job, out=f"{runs.rstrip('/')}/{name}"), held_out)


def attempt(trial: Trial) -> Document:
    """Train a model and judge it, unless that was done before; returns its figures."""
    found = trial.found()
    if found is not None:
        return found
    job, training = trial.job, trial.job.training
    card = run(job, _samples(trial.snapshot, trial.arm, trial.subset))
    samples = card["samples"]["train"]
    if card["steps"] < training.steps or samples < training.batch:
        text = f"{job.data} has {samples:,} samples to train on, and a batch takes {training.batch:,}"
        raise UserError(text, fix="a smaller --batch")
    seen = training.steps * training.batch
    document = {
        "run": card["identity"],
        "data": job.data,
        "seed": training.seed,
        **figures(evaluate(_encoder(card, job), held_out_examples(trial.held_out, job.model))),
        "sha256": card["sha256"],
        "device": job.device,
        "seconds": card["seconds"]["training"],
        "samples_seen": seen,
        "flops": _flops(card, job, seen),
        "skipped": card["skipped"],
    }
    store = open_store(job.out)
    if store.create(trial.key, canonical(document)):
        return document
    return read_json(store, trial.key, Figures, ANEW)


def _flops(card: Mapping[str, Any], job: TrainingJob, seen: int) -> float:
    """What a training has cost; cards of an earlier version don't say, and captions then count in full."""
    if "flops" in card:
        return float(card["flops"]["totals"]["full"])
    return 3 * training_flops(job.model, job.training, text=True) * seen


def parts_of(snapshot: Snapshot, share: float, seeds: Sequence[int], runs: str) -> TrainingParts:
    """What models of a snapshot's evaluation are trained on. With a share of names held out all headers are read to
    tell, once for all seeds that are new: what comes of it is kept below `runs`."""
    if not share:
        return parts(snapshot, seeds)
    store = open_store(runs)
    decided = [
        snapshot.document.plan,
        [shard.ref.content[0] for shard in snapshot.loader_shards()],
        share,
        HOLDOUT_RULE,
    ]
    of_sizes = f"parts/{digest(decided)}.json"
    of_draws = {seed: f"parts/{digest([*decided, seed])}.json" for seed in seeds}
    sizes = find(store, of_sizes, PartSizes, ANEW)
    draws = {seed: find(store, key, PartDraw, ANEW) for seed, key in of_draws.items()}
    new = [seed for seed, drawn in draws.items() if drawn is None]
    if sizes is None or new:
        with progress("Looking for held-out names", None) as advance:
            made = parts_without(snapshot, share, new, advance)
        sizes = PartSizes(kept=made.kept, pool=made.pool)
        store.create(of_sizes, canonical(sizes.to_json()))
        for seed in new:
            part = made.random[seed]
            draws[seed] = drawn = PartDraw(bound=None if part is None else part.bound)
            store.create(of_draws[seed], canonical(drawn.to_json()))
    bounds = {seed: drawn.bound for seed, drawn in draws.items() if drawn is not None}
    random = {seed: None if bound is None else Subset(seed, bound) for seed, bound in bounds.items()}
    return TrainingParts(sizes.kept, sizes.pool, random)


def pin(url: str, share: float) -> HeldOut:
    """The held-out samples at `url`, as they are listed now."""
    url = pinned(absolute_url(url), StoreOptions())
    return HeldOut(url, share, listing_sha256(open_shards(url)))


@lru_cache(maxsize=1)
def held_out_examples(held_out: HeldOut, model: str) -> Examples:
    """The held-out samples as `model` sees them. Raises `UserError` where there are too few to be judged on."""
    found, flaws = read_held_out(Samples(open_shards(held_out.url)), model, held_out.share)
    if len(found) < 2:
        why = f", with {held_out.share * 100:g} % of the names held out" if held_out.share else ""
        text = f"{held_out.url} has {len(found)} samples to be judged on{why} (skipped: {summary(flaws)})"
        raise UserError(text, fix="name held-out data with pictures and captions, or a larger --holdout")
    return found


@lru_cache(maxsize=8)
def _samples(snapshot: str, arm: str, subset: Subset | None) -> Samples:
    """What is trained on, under the limits of the snapshot's recipe."""
    found = snapshots.open(snapshot)
    shards = open_shards(snapshot) if arm == CURATED else source_shards(found)
    weights = found.weights() if arm == CURATED else ALIKE
    return Samples(shards, subset, weights=weights)


def _encoder(card: Mapping[str, Any], job: TrainingJob) -> DualEncoder:
    """The model that was trained, from where it is kept: a copy in the cache of weights would be read once."""
    store = open_store(job.out)
    where = store.location(card["key"])  # the card may be of another place
    data = read_named(store, card["key"], card["sha256"], f"delete {store.location('')}, and evaluate again")
    use_threads(job.threads)
    module = build_model(job.model)
    load_tensors(module, load(data), job.model, where)
    return DualEncoder(job.model, module, pick_device(job.device), job.training.precision)
