"""An evaluation from start to end: plan, train and judge the missing models, attach the result to the snapshot.

Models are cached under everything that determines them (`curation.evaluation.trials`): two snapshots of one pool share
the pool's models, and an interrupted evaluation continues with the missing ones. Results are create-only documents
beside the snapshot (`curation.dataset.evaluations`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, overload

import pyarrow as pa

from curation.core.executor import Executor, Resources, WorkerDiedError, WorkerPlace
from curation.core.local_executor import LocalExecutor
from curation.core.origins import TRUSTED
from curation.core.progress import progress
from curation.dataset import evaluations
from curation.dataset import snapshot as snapshots
from curation.dataset.evaluations import CURATED, RANDOM, RAW, Document
from curation.dataset.examples import left_out_of, mixed
from curation.dataset.open_shards import latest_of
from curation.dataset.snapshot import Snapshot
from curation.evaluation.label_evaluation import LabelEvaluation, evaluate_labels
from curation.evaluation.labellings import Labels, labellings
from curation.evaluation.leakage import leaks_of_scorers
from curation.evaluation.protocol import EvaluationPlan, EvaluationProtocol, plan
from curation.evaluation.trials import HeldOut, Trial, held_out_examples, pin, run_trial
from curation.learners.training import Training
from curation.learning.sources import resolve
from curation.models.devices import pick_device
from curation.models.retrieval import CANDIDATES, one_per_group
from curation.storage.store import StoreOptions
from curation.storage.urls import absolute_url

DEATHS = 5  # of a worker's process during one training; then the evaluation ends


class EvaluationResult(NamedTuple):
    """The documents of the evaluated snapshots, in their order, and the number of models that were judged for them."""

    documents: list[Document]
    judged: int


class PlannedEvaluation(NamedTuple):
    """An evaluation of snapshots, with the models to train. attached: identity -> document, or None."""

    protocol: EvaluationProtocol
    plans: list[EvaluationPlan]
    attached: dict[str, Document | None]
    todo: list[Trial]

    def attach(self) -> EvaluationResult:
        """Attach the missing documents, once all models are judged; return all documents."""
        documents = [self.attached[one.identity] or attach_evaluation(one, self.protocol) for one in self.plans]
        return EvaluationResult(documents, len(self.todo))

    def models(self) -> dict[str, str]:
        """Return the folder of each model by a name of snapshot, arm and seed. A shared model has one name."""
        folders = {
            one.job.out: f"{one.snapshot} {one.arm}, seed {one.job.training.seed}"
            for plan in reversed(self.plans)
            for one in plan.trials
        }
        return {name: folder for folder, name in folders.items()}


@overload
def evaluate(
    urls: str | Sequence[str], against: str, *, executor: Executor | None = None, workers: int | None = None,
    labels: None = None, **settings: Any,
) -> EvaluationResult: ...  # fmt: skip


@overload
def evaluate(
    urls: str | Sequence[str], against: str, *, executor: Executor | None = None, workers: int | None = None,
    labels: Labels, edits: str | Sequence[str] = (), label: str = "name", **settings: Any,
) -> dict[str, Any]: ...  # fmt: skip


def evaluate(
    urls: str | Sequence[str],
    against: str,
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    labels: Labels | None = None,
    edits: str | Sequence[str] = (),
    label: str = "name",
    **settings: Any,
) -> EvaluationResult | dict[str, Any]:
    """Train small CLIPs on snapshots, their source corpora and random parts of these; attach a comparison to each.

    With `labels`, rank models under several labellings of the held-out samples instead (`label_evaluation`).

    urls: of one snapshot or several, `URL` or `URL@7`. against: URL of the held-out samples, shards or a snapshot.
    executor: where models are trained; by default on this machine.
    workers: models trained at once; 1 trains in this process; None trains as many as the executor can run.
    labels: `"before,after"`, or edit lists by the name of a labelling (None: the labels as stored). Then `urls` may
    also name trained models (`judges`), and the result is a JSON object. edits: the edit lists of `after`. label: the
    json field with the label.
    settings: as of `plan_evaluation`.
    Raises `NoSnapshotError`, and `UserError` for data without enough samples.
    """
    places = [urls] if isinstance(urls, str) else list(dict.fromkeys(urls))
    wanted = None if labels is None else labellings(labels, [edits] if isinstance(edits, str) else edits)
    datasets = places if wanted is None else [url for url in places if is_dataset(url)]
    planned = plan_evaluation(datasets, against, **settings) if datasets else None
    if planned is not None and planned.todo:
        with progress("Training and judging", len(planned.todo), "models") as tick:
            run_trials(planned.todo, executor or LocalExecutor(), workers, tick)
    if wanted is None:
        assert planned is not None, "there is at least one snapshot"
        return planned.attach()
    models = named_models(places, planned)
    own = {name: settings[name] for name in ("holdout", "origins", "device", "threads") if name in settings}
    return evaluate_labels(LabelEvaluation(models=models, against=against, labellings=wanted, label=label, **own))


def is_dataset(url: str) -> bool:
    """Whether a URL names a snapshot, and not a trained model."""
    if url.endswith((".safetensors", ".parquet")):
        return False
    return re.search(r"@(\d+|latest)\Z", latest_of(url)) is not None


def named_models(places: Sequence[str], planned: PlannedEvaluation | None) -> Mapping[str, str]:
    """Return the URLs of the models to judge, by name: trained models as they are named, then those of snapshots."""
    named = {url: url for url in places if not is_dataset(url)}
    return named if planned is None else named | planned.models()


def plan_evaluation(
    urls: str | Sequence[str],
    against: str,
    *,
    holdout: float = 0.0,
    model: str = "proxy-ti",
    training: Training | None = None,
    seeds: int = 3,
    raw: bool = True,
    random: bool = True,
    runs: str | None = None,
    device: str = "auto",
    threads: int = 1,
    origins: Sequence[str] = TRUSTED,
) -> PlannedEvaluation:
    """Plan an evaluation and look for the models that exist already. Trains nothing.

    urls, against: see `evaluate`.
    holdout: share of the names, from 0 to 0.5, to judge on; no model is trained on them.
    model: a name that `curate proxy ls --all` lists. training: settings of every model. seeds: models of each arm.
    raw, random: the arms beside the snapshot: its source corpus, and random parts of it.
    runs: URL of the folder of models; by default `runs/` below the first snapshot.
    device: `auto`, `cpu` or `cuda`. threads: CPU threads of each model.
    origins: those of the samples to judge on (`core.origins`).
    """
    places = [urls] if isinstance(urls, str) else list(dict.fromkeys(urls))
    first = snapshots.open(places[0])  # raises for a URL without a snapshot, before anything is listed
    protocol = EvaluationProtocol(
        held_out=pin(against, holdout, origins), model=model, training=training or Training(), seeds=seeds,
        threads=threads, runs=absolute_url(runs or first.store.location("runs")),
        device=pick_device("auto").type if device == "auto" else device,
    )  # fmt: skip
    others = [arm for arm, wanted in ((RAW, raw), (RANDOM, random)) if wanted]
    plans = [plan(url, protocol, others) for url in places]
    attached = {one.identity: one.attached() for one in plans}
    return PlannedEvaluation(
        protocol, plans, attached, missing([one for one in plans if attached[one.identity] is None])
    )


def missing(plans: Sequence[EvaluationPlan]) -> list[Trial]:
    """Return the trials without figures, each model once."""
    wanted = {(one.name, one.key): one for plan in plans for one in plan.trials}
    return [one for one in wanted.values() if one.figures() is None]


def run_trials(trials: Sequence[Trial], executor: Executor, workers: int | None, tick: Callable[[int], None]) -> None:
    """Train and judge models: with one worker in this process, else in the workers of a pool.

    workers: models at once; None: as many as the executor can run. tick: called with 1 after each model.
    Raises `UserError` for too few held-out samples before anything is trained.
    """
    if not trials:
        return
    held_out_examples(trials[0].held_out, trials[0].job.model)
    job = trials[0].job
    share = Resources(cpus=job.threads, gpus=float(job.device == "cuda"))
    width = min(len(trials), workers or max(1, executor.capacity().fit(share)))
    if width == 1:
        for one in trials:
            run_trial(one)
            tick(1)
        return
    _side_by_side(trials, executor, share, width, tick)


class TrialWorker:
    """A process that trains and judges models one after the other. Held-out samples stay in its memory."""

    def __init__(self, place: WorkerPlace) -> None:
        self.place = place

    def run(self, one: Trial) -> None:
        """Train and judge one model; its figures are put beside it."""
        run_trial(one)


def _side_by_side(
    trials: Sequence[Trial], executor: Executor, share: Resources, width: int, tick: Callable[[int], None]
) -> None:
    """Give each worker the next model when it has finished one; repeat a model whose process died."""
    left, deaths = list(reversed(trials)), 0
    with executor.pool(TrialWorker, share) as pool:
        under_way: dict[Any, tuple[int, Trial]] = {}
        for _ in range(width):
            worker, one = pool.start(), left.pop()
            under_way[pool.submit(worker, "run", one)] = worker, one
        while under_way:
            for call in pool.wait(list(under_way)):
                worker, one = under_way.pop(call)
                try:
                    pool.result(call)
                    tick(1)
                except WorkerDiedError:
                    deaths += 1
                    if deaths > DEATHS:
                        raise
                    left.append(one)
                if left:
                    one = left.pop()
                    under_way[pool.submit(worker, "run", one)] = worker, one


def attach_evaluation(plan: EvaluationPlan, protocol: EvaluationProtocol) -> Document:
    """Attach the evaluation to its snapshot, once all its models are judged; return the document that is attached."""
    arms: dict[str, Any] = {
        arm: {"samples": samples, "runs": [run_trial(one) for one in trials]}
        for arm, (samples, trials) in plan.arms.items()
    }
    runs = {arm: evaluations.by_seed(found["runs"]) for arm, found in arms.items()}
    for arm, found in arms.items():
        found["mean"] = evaluations.means(runs[arm])
    held_out, snapshot = protocol.held_out, plan.snapshot
    minus, intervals = evaluations.minus(runs)
    source = resolve(held_out.url, StoreOptions())
    examples, flaws = held_out_examples(held_out, protocol.model)
    judged = {"samples": len(examples), "candidates": len(one_per_group(examples, CANDIDATES))}
    pictures = evaluations.content_hashes(mixed(source.shards), examples.uids)
    document = {
        "snapshot": snapshot.number,
        "identity": plan.identity,
        "protocol": protocol.to_json() | {"streamed": plan.streamed},
        "held_out": {"url": held_out.url, "share": held_out.share, **judged, **_of_origins(held_out, flaws)},
        "arms": arms,
        "minus": minus,
        "intervals": intervals,
        "overlap": _overlap(plan, pictures, held_out.share),
        "weighted": _weighs(snapshot),
        "seen": leaks_of_scorers(snapshot.document["recipe"], source, held_out.share),
    }
    return evaluations.attach(snapshot.store, snapshot.number, plan.identity, document)


def _of_origins(held_out: HeldOut, flaws: Mapping[str, int]) -> dict[str, Any]:
    """Return the held-out samples' origins if they are not the usual ones, and the samples that are left out."""
    own = {} if held_out.origins == TRUSTED else {"origins": list(held_out.origins)}
    counts = left_out_of(flaws)
    return own | ({"left_out": counts} if counts else {})


def _overlap(plan: EvaluationPlan, pictures: pa.Array, share: float) -> dict[str, int]:
    """Count held-out pictures, byte for byte, among the training samples.

    No model is trained on a held-out name, but the same picture may have another name, or none.
    """
    if not share:
        return evaluations.overlap(plan.snapshot, pictures)
    return evaluations.leaks(plan.snapshot, pictures, share, pool=plan.arms.keys() != {CURATED})


def _weighs(snapshot: Snapshot) -> bool:
    """Return whether some kept sample has another weight than 1."""
    query = "SELECT coalesce(bool_or(decision = 'kept' AND weight <> 1), false) AS own FROM manifest"
    return bool(snapshot.manifest.query(query, ["decision", "weight"]).column("own")[0].as_py())
