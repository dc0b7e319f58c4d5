"""The proof that data got better: the same small CLIP, trained for the same compute on it and on what it came from.

DataComp's protocol in small (2304.14108, section 3: model and compute are fixed, only the data differ). On a snapshot,
on its pool (all usable samples of its source corpus) and on random parts of the pool of the snapshot's size, one model
a seed: the same initial weights, the same number of updates of the same batch, the same held-out samples. A random part
is drawn anew for every seed, so that the interval holds the luck of the draw. The snapshot's own models meet a sample
as often as it weighs in the manifest.

What came of it is attached to the snapshot (`curation.dataset.evaluations`); models are kept and shared
(`curation.evaluation.trials`): two snapshots of one pool share the pool's, and what was stopped goes on with those that
are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import pyarrow as pa

import curation as cu
from curation.core.digest import digest
from curation.core.errors import UserError
from curation.dataset import evaluations
from curation.dataset.evaluations import CURATED, RANDOM, RAW, Document
from curation.dataset.examples import mixed
from curation.dataset.open_shards import open_shards
from curation.dataset.snapshot import Snapshot
from curation.evaluation.training import TRAINING_VERSION, TrainingJob
from curation.evaluation.trials import HeldOut, Trial, attempt, held_out_examples, parts_of, trial
from curation.learners.training import Training
from curation.learning.overlap_check import RunData
from curation.learning.seen import HeldOutPart, HoldoutSplit, models_of, seen_by
from curation.learning.sources import snapshot_of
from curation.models import model_config, preprocess_for
from curation.models.batches import BUDGET
from curation.models.retrieval import CANDIDATES, one_per_group
from curation.storage.store import StoreOptions


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is the same for all models that are compared, and where they are kept."""

    held_out: HeldOut
    model: str
    training: Training
    seeds: int  # from the training's on
    runs: str
    device: str = "cpu"  # a type; it and the threads decide the last bits of the weights
    threads: int = 1

    def job(self, data: str, seed: int, *, streamed: bool) -> TrainingJob:
        """One training, of which nobody has said yet where it is kept."""
        return TrainingJob(
            data=data, model=self.model, out="", training=replace(self.training, seed=seed), evaluated=False,
            holdout=self.held_out.share, device=self.device, threads=self.threads, streamed=streamed, shared=True,
        )  # fmt: skip

    def streams(self, samples: int) -> bool:
        """Whether so many are too many for memory: then all arms are streamed, so that only data differ."""
        return samples * preprocess_for(self.model).size ** 2 * 3 > BUDGET

    def to_json(self) -> dict[str, Any]:
        """What makes figures comparable: other seeds are more of the same."""
        settings = {name: value for name, value in asdict(self.training).items() if name != "seed"}
        settings["betas"] = list(settings["betas"])
        config = digest(model_config(self.model))
        about = {"model": self.model, "config": config, "training": settings, "held_out": self.held_out.id}
        where = {"device": self.device, "threads": self.threads if self.device == "cpu" else 0}
        return {**about, **where, "version": TRAINING_VERSION, "sampling": "by weight"}


class EvaluationPlan(NamedTuple):
    """All models of one snapshot's evaluation: of each arm how many samples it has, and a trial a seed."""

    snapshot: Snapshot
    arms: Mapping[str, tuple[int, Sequence[Trial]]]

    @property
    def trials(self) -> list[Trial]:
        """The first seed of every arm before the second of any."""
        return [one for seed in zip(*(trials for _, trials in self.arms.values()), strict=True) for one in seed]

    @property
    def streamed(self) -> bool:
        """Whether all are trained on what is streamed."""
        return self.trials[0].job.streamed

    @property
    def identity(self) -> str:
        return digest([[one.arm, one.name, one.held_out.id] for one in self.trials])

    def attached(self) -> Document | None:
        """What came of it, if somebody has carried it out."""
        return evaluations.find(self.snapshot.store, self.snapshot.number, self.identity)


def plan(url: str, protocol: Protocol, others: Sequence[str]) -> EvaluationPlan:
    """The models that it takes to evaluate the snapshot at `url` beside `others` of the arms. Trains nothing."""
    snapshot = cu.open(url)
    name = f"{snapshot.store.url.removeprefix('file://')}@{snapshot.number}"
    kept, batch = snapshot.document["samples"]["kept"], protocol.training.batch
    if not kept:
        raise UserError(f"{name} keeps no sample that could be trained on", fix="a snapshot that keeps some")
    seeds = range(protocol.training.seed, protocol.training.seed + protocol.seeds)
    parts = parts_of(snapshot, protocol.held_out.share, seeds if RANDOM in others else (), protocol.runs)
    if parts.kept < batch:
        text = f"{name} has {parts.kept:,} samples to train on, and a batch takes {batch:,}"
        raise UserError(text, fix="a smaller --batch")
    sizes = {CURATED: parts.kept, RAW: parts.pool, RANDOM: parts.kept}
    streamed = protocol.streams(parts.pool if others else parts.kept)

    def trials(arm: str) -> list[Trial]:
        jobs = {seed: protocol.job(f"{name} ({arm})", seed, streamed=streamed) for seed in seeds}
        draws = parts.random if arm == RANDOM else dict.fromkeys(seeds)
        return [trial(name, arm, draws[seed], job, protocol.held_out, protocol.runs) for seed, job in jobs.items()]

    return EvaluationPlan(snapshot, {arm: (sizes[arm], trials(arm)) for arm in sizes if arm in (CURATED, *others)})


def missing(plans: Sequence[EvaluationPlan]) -> list[Trial]:
    """The models that nobody has trained and judged yet, each once."""
    wanted = {(one.name, one.key): one for plan in plans for one in plan.trials}
    return [one for one in wanted.values() if one.found() is None]


def carry_out(trials: Sequence[Trial], workers: int | None, address: str | None, tick: Callable[[int], None]) -> None:
    """Train and judge models: on one worker in this process, else side by side as Ray tasks."""
    if trials:
        held_out_examples(trials[0].held_out, trials[0].job.model)  # raises before anything is trained
    if workers == 1 or len(trials) < 2:
        for one in trials:
            attempt(one)
            tick(1)
        return
    from actors.cluster import address_of, cpus, gpus, map_bounded, on_cluster

    cuda, threads, done = trials[0].job.device == "cuda", trials[0].job.threads, 0

    def side_by_side() -> None:
        nonlocal done
        if cuda and not gpus() and not address_of(address):  # its tasks would wait for one; another cluster may grow
            raise UserError("device cuda: this machine has no GPU", fix="--device cpu, or an --address with GPUs")
        width = workers or max(1, int(gpus()) if cuda else cpus() // threads)
        for n, _ in enumerate(map_bounded(attempt, trials, width=width, num_cpus=threads, num_gpus=float(cuda)), 1):
            tick(max(0, n - done))  # those that an earlier cluster has finished are found, not trained
            done = max(done, n)

    on_cluster(address, side_by_side)


def conclude(plan: EvaluationPlan, protocol: Protocol) -> Document:
    """Attach what came of a plan to its snapshot, once all its models are there; returns what is attached."""
    arms: dict[str, Any] = {
        arm: {"samples": samples, "runs": [attempt(one) for one in trials]}
        for arm, (samples, trials) in plan.arms.items()
    }
    runs = {arm: evaluations.by_seed(found["runs"]) for arm, found in arms.items()}
    for arm, found in arms.items():
        found["mean"] = evaluations.means(runs[arm])
    held_out, snapshot = protocol.held_out, plan.snapshot
    minus, intervals = evaluations.minus(runs)
    examples = held_out_examples(held_out, protocol.model)
    judged = {"samples": len(examples), "candidates": len(one_per_group(examples, CANDIDATES))}
    pictures = evaluations.content_hashes(mixed(open_shards(held_out.url)), examples.uids)
    document = {
        "snapshot": snapshot.number,
        "identity": plan.identity,
        "protocol": protocol.to_json() | {"streamed": plan.streamed},
        "held_out": {"url": held_out.url, "share": held_out.share, **judged},
        "arms": arms,
        "minus": minus,
        "intervals": intervals,
        "overlap": _overlap(plan, pictures, held_out.share),
        "weighted": _weighs(snapshot),
        "seen": seen_by_scorers(snapshot.document["recipe"], held_out),
    }
    return evaluations.attach(snapshot.store, snapshot.number, plan.identity, document)


def _overlap(plan: EvaluationPlan, pictures: pa.Array, share: float) -> dict[str, int]:
    """Held-out pictures, byte for byte, among what is trained on. No model is trained on a held-out name, but the same
    picture may have another one, or none."""
    if not share:
        return evaluations.overlap(plan.snapshot, pictures)
    return evaluations.leaks(plan.snapshot, pictures, share, pool=plan.arms.keys() != {CURATED})


def seen_by_scorers(recipe: Mapping[str, Any], held_out: HeldOut) -> list[str]:
    """Scorers of a snapshot's recipe whose models were trained on what the arms are judged on, or perhaps: a line each.

    The curated arm alone profits by that: its samples were chosen by a model that has seen the answers.
    """
    options = StoreOptions()
    source = RunData(held_out.url, open_shards(held_out.url), snapshot_of(held_out.url, options))
    judged = HeldOutPart([source], HoldoutSplit(held_out.share))
    lines = list[str]()
    for entry in recipe.get("scorers") or ():
        ((kind, fields),) = entry.items()
        for weights in models_of(fields or {}):
            trained, line = seen_by(weights, judged, options)
            about = f"the model of {kind} was trained on samples that models are judged on: " if trained else ""
            lines += [f"{about}{line}"] if line else []
    return lines


def _weighs(snapshot: Snapshot) -> bool:
    """Whether the manifest gives kept samples weights of their own."""
    query = "SELECT coalesce(bool_or(decision = 'kept' AND weight <> 1), false) AS own FROM manifest"
    return bool(snapshot.manifest.query(query, ["decision", "weight"]).column("own")[0].as_py())
