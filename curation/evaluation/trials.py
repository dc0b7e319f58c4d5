"""One model of an evaluation: its training data and settings, its held-out samples, and its figures.

    <runs>/<run>/                                 weights and card of a training, named by its identity
    <runs>/<run>/evaluations/<held-out>.json      the model's figures on held-out samples, create-only
    <runs>/parts/<part>.json                      with names held out: sizes of parts, and the part that a seed draws

No evaluation thus trains a model that exists, and other held-out samples cost no training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from safetensors.torch import load

from curation.core.digest import canonical, digest
from curation.core.errors import NotFoundError, UserError
from curation.core.holdout import HOLDOUT_RULE
from curation.core.origins import ORIGINS, TRUSTED, expect_origins
from curation.core.progress import progress
from curation.core.skipped import summary
from curation.dataset import snapshot as snapshots
from curation.dataset.evaluations import CURATED, REBUILD_FIX, Document, figures
from curation.dataset.open_shards import open_shards
from curation.dataset.random_subset import Subset, TrainingParts, parts, parts_without, source_shards
from curation.dataset.sample_weights import ALIKE
from curation.dataset.snapshot import Snapshot
from curation.evaluation.card import identity_of
from curation.evaluation.job import TrainingJob
from curation.evaluation.pairs import Samples
from curation.evaluation.training import read_held_out, run
from curation.learning.model_flops import training_flops
from curation.learning.sources import resolve
from curation.ledger.documents import find, read_json
from curation.ledger.documents.learning import Figures, PartDraw, PartSizes
from curation.ledger.named_objects import read_named
from curation.models.architecture import build_model
from curation.models.batches import Examples
from curation.models.devices import pick_device, use_threads
from curation.models.dual import DualEncoder, load_tensors
from curation.models.retrieval import EVALUATION_VERSION, MAX_EVALUATED, evaluate
from curation.storage.store import StoreOptions, open_store
from curation.storage.urls import absolute_url


class HeldOut(NamedTuple):
    """The samples that models are judged on: all of `url`, or those of a `share` of its names.

    With a share, no model is trained on samples of these names.
    """

    url: str  # a snapshot's with its number
    share: float
    sha256: str  # of the listing
    origins: tuple[str, ...] = TRUSTED  # of the samples (`core.origins`)

    @property
    def id(self) -> str:
        """A hash of the samples and of the code that judges on them."""
        own = [] if self.origins == TRUSTED else [sorted(self.origins)]
        return digest([self.sha256, self.share, MAX_EVALUATED, EVALUATION_VERSION, *own])


class Trial(NamedTuple):
    """One model to train and judge. Small, because it is sent to workers."""

    snapshot: str  # URL@N
    arm: str
    subset: Subset | None
    job: TrainingJob
    held_out: HeldOut

    @property
    def name(self) -> str:
        """The hash of everything that determines the weights."""
        return self.job.out.rpartition("/")[2]

    @property
    def key(self) -> str:
        """The key of its figures below `job.out`."""
        return f"evaluations/{self.held_out.id}.json"

    def figures(self) -> Document | None:
        """Return its figures, or None if it has not been judged."""
        try:
            return read_json(open_store(self.job.out), self.key, Figures, REBUILD_FIX)
        except NotFoundError:
            return None


def trial(snapshot: str, arm: str, subset: Subset | None, job: TrainingJob, held_out: HeldOut, runs: str) -> Trial:
    """Return the trial of one model. Trains nothing.

    snapshot: `URL@7`. arm: of `evaluations.ARMS`. subset: the part of the arm's samples to train on; None: all.
    job: its settings; `out` is filled in. runs: URL of the folder of models.
    """
    name = digest(identity_of(job, {"data": _samples(snapshot, arm, subset)}, job.device))
    return Trial(snapshot, arm, subset, replace(job, out=f"{runs.rstrip('/')}/{name}"), held_out)


def run_trial(trial: Trial) -> Document:
    """Train a model and judge it, unless its figures exist; return them. Safe to repeat, also at the same time.

    Raises `UserError` for fewer training samples than a batch.
    """
    found = trial.figures()
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
        **figures(evaluate(_encoder(card, job), held_out_examples(trial.held_out, job.model)[0])),
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
    return read_json(store, trial.key, Figures, REBUILD_FIX)


def _flops(card: Mapping[str, Any], job: TrainingJob, seen: int) -> float:
    """Return the FLOPs of a training. Cards of an earlier version have none: their captions count at full length."""
    if "flops" in card:
        return float(card["flops"]["totals"]["full"])
    return 3 * training_flops(job.model, job.training, text=True) * seen


def parts_of(snapshot: Snapshot, share: float, seeds: Sequence[int], runs: str) -> TrainingParts:
    """Return the sizes of the snapshot and its pool, and the random part of each seed.

    share: of names that are held out. Then all headers are read to count the others, once for all new seeds, and the
    result is cached below `runs`.
    """
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
    sizes = find(store, of_sizes, PartSizes, REBUILD_FIX)
    draws = {seed: find(store, key, PartDraw, REBUILD_FIX) for seed, key in of_draws.items()}
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


def pin(url: str, share: float, origins: Sequence[str] = TRUSTED) -> HeldOut:
    """Return the held-out samples at `url`, pinned as they are listed now. Raises `UserError` for an unknown origin."""
    try:
        expect_origins(origins, "origins")
    except ValueError as error:
        raise UserError(str(error), fix=f"--origins {','.join(TRUSTED)}") from None
    source = resolve(absolute_url(url), StoreOptions())
    return HeldOut(source.url, share, source.sha256, tuple(sorted(set(origins), key=ORIGINS.index)))


@lru_cache(maxsize=1)
def held_out_examples(held_out: HeldOut, model: str) -> tuple[Examples, Counter[str]]:
    """Return the held-out samples, decoded for `model`, and the skipped ones by reason.

    Raises `UserError` for fewer than two.
    """
    found, flaws = read_held_out(Samples(open_shards(held_out.url)), model, held_out.share, held_out.origins)
    if len(found) < 2:
        why = f", with {held_out.share * 100:g} % of the names held out" if held_out.share else ""
        text = f"{held_out.url} has {len(found)} samples to be judged on{why} (skipped: {summary(flaws)})"
        raise UserError(text, fix="name held-out data with pictures and captions, or raise --holdout")
    return found, flaws


@lru_cache(maxsize=8)
def _samples(snapshot: str, arm: str, subset: Subset | None) -> Samples:
    """Return the training samples of an arm, decoded under the limits of the snapshot's recipe."""
    found = snapshots.open(snapshot)
    shards = open_shards(snapshot) if arm == CURATED else source_shards(found)
    weights = found.weights() if arm == CURATED else ALIKE
    return Samples(shards, subset, weights=weights)


def _encoder(card: Mapping[str, Any], job: TrainingJob) -> DualEncoder:
    """Load the trained model from its own folder: a copy in the cache of weights would be read only once."""
    store = open_store(job.out)
    where = store.location(card["key"])  # the card may have been written at another URL
    data = read_named(store, card["key"], card["sha256"], f"delete {store.location('')} and evaluate again")
    use_threads(job.threads)
    module = build_model(job.model)
    load_tensors(module, load(data), job.model, where)
    return DualEncoder(job.model, module, pick_device(job.device), job.training.precision)
