"""The protocol of an evaluation: the same small CLIP, trained for the same compute on a snapshot and on its source.

DataComp's protocol in small (2304.14108, section 3: fixed model and compute, only the data differ). One model per seed
is trained on each *arm*: the snapshot, its pool (all usable samples of its source corpus), and random parts of the pool
of the snapshot's size. Models of one seed share the initial weights, the number of updates of the same batch, and the
held-out samples. Every seed draws its own random part, so that the interval includes the variance of the draw. Models
of the snapshot itself train on each sample as often as its weight in the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from curation.core.digest import digest
from curation.core.errors import UserError
from curation.dataset import evaluations
from curation.dataset import snapshot as snapshots
from curation.dataset.evaluations import CURATED, RANDOM, RAW, Document
from curation.dataset.snapshot import Snapshot
from curation.evaluation.card import TRAINING_VERSION
from curation.evaluation.job import TrainingJob
from curation.evaluation.trials import HeldOut, Trial, parts_of, trial
from curation.learners.training import Training
from curation.models import model_config, preprocess_for
from curation.models.batches import BUDGET


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol:
    """The settings that all compared models share, and the folder that keeps the models.

    held_out: the samples that models are judged on. seeds: models of each arm, from the training's seed on.
    runs: URL of the folder of models. device: a type; with `threads` it determines the last bits of the weights.
    """

    held_out: HeldOut
    model: str
    training: Training
    seeds: int
    runs: str
    device: str = "cpu"
    threads: int = 1

    def job(self, data: str, seed: int, *, streamed: bool) -> TrainingJob:
        """Return the training of one model. Its folder, `out`, is still empty."""
        return TrainingJob(
            data=data, model=self.model, out="", training=replace(self.training, seed=seed), evaluated=False,
            holdout=self.held_out.share, device=self.device, threads=self.threads, streamed=streamed, shared=True,
        )  # fmt: skip

    def streams(self, samples: int) -> bool:
        """Return whether this many samples exceed memory. Then all arms are streamed, so that only the data differ."""
        return samples * preprocess_for(self.model).size ** 2 * 3 > BUDGET

    def to_json(self) -> dict[str, Any]:
        """Return the settings that make figures comparable. The seeds are left out: more seeds change no figure."""
        settings = {name: value for name, value in asdict(self.training).items() if name != "seed"}
        settings["betas"] = list(settings["betas"])
        config = digest(model_config(self.model))
        about = {"model": self.model, "config": config, "training": settings, "held_out": self.held_out.id}
        where = {"device": self.device, "threads": self.threads if self.device == "cpu" else 0}
        return {**about, **where, "version": TRAINING_VERSION, "sampling": "by weight"}


class EvaluationPlan(NamedTuple):
    """All models of one snapshot's evaluation: for each arm the number of its samples, and one trial a seed."""

    snapshot: Snapshot
    arms: Mapping[str, tuple[int, Sequence[Trial]]]

    @property
    def trials(self) -> list[Trial]:
        """The first seed of every arm, then the second of every arm, and so on."""
        return [one for seed in zip(*(trials for _, trials in self.arms.values()), strict=True) for one in seed]

    @property
    def streamed(self) -> bool:
        """Whether all models train on streamed samples."""
        return self.trials[0].job.streamed

    @property
    def identity(self) -> str:
        """The name of the evaluation: a hash of its models and held-out samples."""
        return digest([[one.arm, one.name, one.held_out.id] for one in self.trials])

    def attached(self) -> Document | None:
        """Return the evaluation if the snapshot has it already, else None."""
        return evaluations.find(self.snapshot.store, self.snapshot.number, self.identity)


def plan(url: str, protocol: EvaluationProtocol, others: Sequence[str]) -> EvaluationPlan:
    """Plan the evaluation of the snapshot at `url` (`URL` or `URL@7`). Trains nothing.

    others: arms to compare it with, of `raw` and `random`.
    Raises `NoSnapshotError`, and `UserError` for a snapshot with fewer samples than a batch.
    """
    snapshot = snapshots.open(url)
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
