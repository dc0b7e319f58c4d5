"""A run of online selection, from its recipe to weights, metrics, a data policy and the ledger of compute.

`Run` holds what takes part and is the same however the steps are made; `local_steps` makes them in this process. What
is recorded of every step is decided here once: metrics, policy, ledger, evaluations, checkpoints.

Files of a run, under its output:
    metrics.jsonl               a line every few steps, and one an evaluation
    policy/                     what was chosen (`curation.policy`)
    checkpoints/                to go on from (`curation.checkpoint`)
    <model>.safetensors         the learner's weights (averaged ones where it has them)
    summary.json                last: its presence says that the run is whole
Memory: the samples, 12 kB each at 64 px; at most `curation.examples.BUDGET`.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from curation import checkpoint
from curation.errors import EmptyCorpusError, NotFoundError, UserError
from curation.evaluation import evaluate
from curation.examples import BUDGET, Examples, Tokenize, gather
from curation.flops import ComputeLedger, Point, Prices, payoff
from curation.learn_recipe import Classification, LearnRecipe, OnlineModel, ReferenceModel
from curation.learners.classification import ClassLearner, accuracy, classes_of, labelled
from curation.learners.contrastive import ClipLearner
from curation.learners.learner import Learner, Training
from curation.ledger import digest
from curation.loader import Part, SampleStream, Shard, open_shards, split_label
from curation.models import cost, model_config, preprocess_for
from curation.models.tokenizer import tokenizer_for
from curation.models.weights import fetch_weights, read_metadata, read_tensors, tensors_to_bytes
from curation.online import Model, OnlineStep, Roles, Scored, online_selection
from curation.policy import Policy, PolicyWriter, replay
from curation.pool import Place, Pool, SuperBatch
from curation.store import open_store

LOG_EVERY = 10  # steps between two lines of metrics
MAX_EVALUATED = 4000  # held-out samples that are looked at
BINS = 20  # of the histogram of scores
VALUES = 20  # of a field, by which the metrics tell what was chosen

Progress = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class Data:
    """What a run reads: candidates, held-out samples, and by which fields the metrics tell candidates apart."""

    pool: Examples
    held_out: Examples
    fields: Mapping[str, list[str]]  # of every candidate
    sha256: str  # of the shards' listing
    skipped: Mapping[str, int]


class Timed:
    """A model whose samples and seconds are counted; the metrics' samples/s of each role."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.samples, self.seconds = 0, 0.0
        self.before = 0.0  # seconds of the run's earlier parts

    @property
    def steps(self) -> int:
        return int(self.model.steps)

    def step(self, batch: Any) -> Any:
        return self._count(len(batch.pixels), self.model.step, batch)

    def outputs(self, candidates: SuperBatch) -> Any:
        return self._count(len(candidates.rows), self.model.outputs, candidates)

    def _count(self, samples: int, call: Callable[[Any], Any], argument: Any) -> Any:
        began = time.monotonic()
        found = call(argument)
        self.seconds += time.monotonic() - began
        self.samples += samples
        return found


class Run:
    """Everything that takes part in one run, and its record. Make it, then give `record` every step."""

    def __init__(self, recipe: LearnRecipe, data: Data, device: torch.device) -> None:
        self.recipe, self.data, self.device = recipe, data, device
        self.store = open_store(recipe.output, recipe.options)
        self.classes: list[str] = []
        pool = data.pool
        targets: Tokenize | Tensor = tokenizer_for(recipe.learner.model)
        if isinstance(recipe.learner, Classification):
            self.classes = classes_of(pool.labels, recipe.learner.least)
            pool, targets = labelled(pool, self.classes)
        self.pool = Pool(pool, targets, recipe.learner.seed)
        kept = {uid: row for row, uid in enumerate(data.pool.uids)}
        rows = [kept[uid] for uid in pool.uids]
        self.fields = {name: [values[row] for row in rows] for name, values in data.fields.items()}
        self.learner = self.make(recipe.learner.model, recipe.training)
        self.online, self.reference, self.reference_pool = self._models()
        self.ledger = ComputeLedger(self._prices())
        self.metrics: list[dict[str, Any]] = []
        self.scoring = frozenset(
            role
            for role in recipe.selection.selector.roles()
            if role == "online" or not isinstance(self.reference, Scored)
        )
        self._window = _Window()
        self.timed = {name: Timed(model) for name, model in self._taking_part().items()}
        self._resume()
        self.policy = PolicyWriter(open_store(f"{recipe.output.rstrip('/')}/policy", recipe.options), pool.uids)

    def make(self, model: str, training: Training) -> Learner:
        """A learner of the recipe's kind."""
        if self.classes:
            return ClassLearner(model, self.classes, training, self.device)
        if model_config(model)["text_cfg"].get("vocab_size", 49408) != model_config(self.recipe.learner.model)[
            "text_cfg"
        ].get("vocab_size", 49408):
            text = f"{model} and the learner {self.recipe.learner.model} have different vocabularies"
            raise UserError(text, fix="models of one run share a tokenizer")
        return ClipLearner(model, training, self.device)

    def roles(self) -> Roles[Any]:
        """Who takes part, timed."""
        online: Any = None
        if self.online is not None:
            online = self.timed["learner" if self.online is self.learner else "online"]
        reference: Any = self.timed.get("reference", self.reference)
        return Roles(
            learner=self.timed["learner"], online=online, reference=reference, reference_pool=self.reference_pool
        )

    def steps(self) -> Iterator[OnlineStep]:
        """The steps that are left, made in this process."""
        settings = self.recipe.learner
        if self.recipe.replay:
            folder = open_store(f"{self.recipe.replay.rstrip('/')}/policy", self.recipe.options)
            for step in replay(self.timed["learner"], self.pool, Policy(folder)):
                if step.number >= settings.steps:
                    return
                yield step
            return
        yield from online_selection(
            self.roles(), self.pool, self.recipe.selection, steps=settings.steps, batch=settings.batch,
            seed=settings.seed,
        )  # fmt: skip

    def record(self, step: OnlineStep, *, lag: int = 0, **more: Any) -> None:
        """Everything that is kept of a step, after it was made."""
        recipe, done = self.recipe, step.number + 1
        self.ledger.add(step, self.roles(), self.scoring)
        self.policy.add(step, self.models, lag)
        self._window.add(step, self.fields, lag)
        last = done == recipe.learner.steps
        if done % LOG_EVERY == 0 or done == 1 or last:
            self._log(step, more)
        if done % recipe.evaluate_every == 0 or last:
            self.evaluate(done)
        if done % recipe.checkpoint_every == 0 or last:
            self.save()

    def evaluate(self, done: int) -> None:
        """A point of the learning curve."""
        found = evaluation(self.learner, self.data.held_out)
        self.metrics.append({"step": done, "quality": found["quality"], "flops": self.ledger.totals(), **found})

    @property
    def curve(self) -> list[Point]:
        """The learning curve so far."""
        return [Point(row["step"], row["quality"], row["flops"]) for row in self.metrics if "quality" in row]

    @property
    def models(self) -> dict[str, str]:
        """What scored, for the policy: a frozen reference by its weights, a learning one by its name."""
        names = {}
        if "online" in self.scoring and isinstance(self.recipe.online, OnlineModel):
            names["online"] = self.recipe.online.model
        reference = self.recipe.reference
        if reference is not None and "reference" in self.recipe.selection.selector.roles():
            names["reference"] = reference.sha256 or reference.column or reference.model
        return names

    def live(self) -> str:
        """The ledger of compute in a few words, for the progress line."""
        totals, curve = self.ledger.totals(), self.curve
        share = totals["full"] / max(1.0, self.ledger.parts()["learning"])
        text = f"{totals['full'] / 1e12:.2f} TFLOP ({share:.2f} x learning)"
        return f"{text}, quality {curve[-1].quality:.3f}" if curve else text

    def seconds(self) -> dict[str, float]:
        """Seconds on the device by role, of the whole run."""
        return {name: round(timed.before + timed.seconds, 2) for name, timed in self.timed.items()}

    def save(self) -> None:
        """A checkpoint, with all that was recorded up to it."""
        self.policy.close()
        self.store.put("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in self.metrics).encode())
        counts = {name: value for name, value in asdict(self.ledger).items() if name != "prices"}
        facts = {
            "identity": self.recipe.identity,
            "data_sha256": self.data.sha256,
            "place": list(self.pool.place),
            "reference_place": None if self.reference_pool is None else list(self.reference_pool.place),
            "ledger": counts,
            "seconds": self.seconds(),
        }
        checkpoint.save(self.store, self._learning(), facts)

    def finish(self, began: float) -> dict[str, Any]:
        """Weights and summary; returns the summary."""
        metadata = {"format": "pt", "model": self.recipe.learner.model}
        if self.classes:
            metadata["classes"] = json.dumps(self.classes)
        data = tensors_to_bytes(self.learner.tensors(), metadata)
        key = f"{self.recipe.learner.model}.safetensors"
        self.store.put(key, data)
        summary = {
            "identity": self.recipe.identity,
            "data_sha256": self.data.sha256,
            "recipe": self.recipe.document,
            "weights": self.store.location(key),
            "key": key,
            "sha256": sha256(data).hexdigest(),
            "steps": self.learner.steps,
            "samples": {"pool": len(self.pool), "held_out": len(self.data.held_out)},
            "skipped": dict(self.data.skipped),
            "quality": self.curve[-1].quality,
            "evaluation": next(row for row in reversed(self.metrics) if "quality" in row),
            "curve": [point._asdict() for point in self.curve],
            "flops": {"parts": self.ledger.parts(), "totals": self.ledger.totals()},
            "device": str(self.device),
            "device_seconds": self.seconds(),
            "seconds": round(time.monotonic() - began, 1),
            "against": self._against(),
        }
        self.store.put("summary.json", json.dumps(summary, indent=2).encode())
        return summary

    def _against(self) -> dict[str, Any] | None:
        """What was saved against the named uniform run."""
        if self.recipe.compare is None:
            return None
        other = summary_of(self.recipe.compare, self.recipe)
        found = payoff(self.curve, curve_of(other))
        return {"run": self.recipe.compare, **asdict(found), "compute_positive": found.compute_positive}

    def _models(self) -> tuple[Learner | None, Model | None, Pool | None]:
        recipe, roles = self.recipe, self.recipe.selection.selector.roles()
        online: Learner | None = None
        if "online" in roles and not recipe.replay:
            online = self.learner
            if isinstance(recipe.online, OnlineModel):
                online = self.make(recipe.online.model, recipe.online_training())
        if "reference" not in roles or recipe.replay or recipe.reference is None:
            return online, None, None
        return (online, *self._reference(recipe.reference))

    def _reference(self, found: ReferenceModel) -> tuple[Model, Pool | None]:
        recipe = self.recipe
        if found.column is not None:
            return Scored(column_losses(recipe, found.column, self.pool.examples.uids)), None
        settings = Training(
            steps=recipe.learner.steps, batch=recipe.learner.batch, lr=recipe.learner.lr,
            seed=recipe.learner.seed + 2, loss=recipe.learner.loss, scoring_size=found.scoring_size,
            precision=recipe.learner.precision,
        )  # fmt: skip
        model = self.make(found.model, settings)
        if found.train is not None:
            stream = _stream(open_shards(found.train, recipe.options), recipe, "all")
            trusted = gather(stream)
            if trusted is None or not len(trusted):
                raise UserError(f"{found.train} has no samples for the reference, or too many", fix="name other data")
            targets: Tokenize | Tensor = tokenizer_for(recipe.learner.model)
            if self.classes:
                trusted = _relabelled(trusted, [split_label(label)[0] for label in trusted.labels])
                trusted, targets = labelled(trusted, self.classes)
            return model, Pool(trusted, targets, recipe.learner.seed + 2)
        weights = recipe.reference_weights()
        assert weights is not None, "the recipe has checked it"
        path = fetch_weights(weights, recipe.options)
        if self.classes and json.loads(read_metadata(path).get("classes", "[]")) != self.classes:
            text = f"{weights.url} knows other classes than this data has"
            raise UserError(text, fix="train the reference with the same labels, or let `reference.train` do it")
        tensors = read_tensors(path, weights.url)
        load_into(model, tensors, weights.url)
        return model, None

    def _prices(self) -> Prices:
        recipe = self.recipe
        reference = recipe.reference if self.reference is not None else None
        beforehand = 0.0
        if reference is not None and reference.weights is not None:
            beforehand = trained_flops(reference.weights, recipe)
        online = self.online.model if self.online is not None else None
        return Prices(
            learner=self._flops(recipe.learner.model),
            online=self._flops(online) if online else 0.0,
            reference=self._flops(reference.model) if reference is not None and not reference.column else 0.0,
            reference_training=beforehand,
        )

    def _flops(self, model: str) -> float:
        found = cost(model)
        return float(found.image_flops + (0 if self.classes else found.text_flops))

    def _taking_part(self) -> dict[str, Any]:
        found: dict[str, Any] = {"learner": self.learner}
        if self.online is not None and self.online is not self.learner:
            found["online"] = self.online
        if self.reference is not None and not isinstance(self.reference, Scored):
            found["reference"] = self.reference
        return found

    def _learning(self) -> dict[str, Learner]:
        """The models whose state a checkpoint holds."""
        models = self._taking_part()
        if self.reference_pool is None:
            models.pop("reference", None)
        return models

    def _resume(self) -> None:
        """Go on from the latest checkpoint. With other data than it was made with, a new epoch of these begins."""
        found = checkpoint.latest(self.store, {"identity": self.recipe.identity})
        if found is None:
            return
        found.restore(self._learning())
        facts = found.facts
        place = Place(*facts["place"])
        same = facts["data_sha256"] == self.data.sha256
        self.pool.place = place if same else Place(place.epoch + 1, 0)
        if self.reference_pool is not None:
            self.reference_pool.place = Place(*facts["reference_place"])
        self.ledger = ComputeLedger(self.ledger.prices, **facts["ledger"])
        for name, timed in self.timed.items():
            timed.before = facts["seconds"].get(name, 0.0)
        rows = [json.loads(line) for line in self.store.get("metrics.jsonl").decode().splitlines()]
        self.metrics = [row for row in rows if row["step"] <= found.updates]
        if not same:
            self.metrics.append({"step": found.updates, "event": "other data", "data_sha256": self.data.sha256})

    def _log(self, step: OnlineStep, more: Mapping[str, Any]) -> None:
        loss = float(step.report.loss)
        if not loss < float("inf"):
            fix = f"a lower learner lr than {self.recipe.learner.lr}"
            raise UserError(f"the loss is {loss} at step {step.number + 1}", fix=fix)
        row = {
            "step": step.number + 1,
            "loss": round(loss, 5),
            "lr": step.report.lr,
            "gradient_norm": round(float(step.report.gradient_norm), 4),
            "flops": self.ledger.totals(),
            "samples_per_second": {
                name: round(timed.samples / timed.seconds) for name, timed in self.timed.items() if timed.seconds
            },
        }
        if step.online_report is not None:
            row["online_loss"] = round(float(step.online_report.loss), 5)
        self.metrics.append({**row, **self._window.row(), **more})
        self._window = _Window()


class _Window:
    """What was chosen since the last line of metrics."""

    def __init__(self) -> None:
        self.offered: dict[str, Counter[str]] = {}
        self.chosen: dict[str, Counter[str]] = {}
        self.scores: list[Tensor] = []
        self.lag = 0

    def add(self, step: OnlineStep, fields: Mapping[str, list[str]], lag: int) -> None:
        self.lag = max(self.lag, lag)
        if step.scores is not None:
            self.scores.append(step.scores.float().cpu())
        for name, values in fields.items():
            rows = step.candidates.tolist()
            self.offered.setdefault(name, Counter()).update(values[row] for row in rows)
            self.chosen.setdefault(name, Counter()).update(values[rows[place]] for place in step.chosen.tolist())

    def row(self) -> dict[str, Any]:
        found: dict[str, Any] = {"lag": self.lag}
        if self.scores:
            scores = torch.cat(self.scores)
            low, high = float(scores.min()), float(scores.max())
            counts = torch.histc(scores, BINS, low, high).int().tolist() if high > low else [len(scores)]
            found["scores"] = {"low": low, "high": high, "counts": counts}
        if self.offered:
            found["chosen_share"] = {
                name: {value: round(self.chosen[name][value] / n, 3) for value, n in offered.most_common(VALUES)}
                for name, offered in self.offered.items()
            }
        return found


def learn(recipe: LearnRecipe, device: torch.device, progress: Progress, note: Callable[[str], None]) -> dict[str, Any]:
    """The whole run in this process, or what is left of it. `note` is told the ledger of compute, live."""
    began = time.monotonic()
    shards, listing = listed(recipe)
    done = finished(recipe, listing)
    if done is not None:
        return {**done, "reused": True}
    run = Run(recipe, read(recipe, shards, listing, progress), device)
    label = f"Training {recipe.learner.model}"
    with progress(label, recipe.learner.steps) as advance:
        advance(run.learner.steps)
        for step in run.steps():
            run.record(step)
            note(run.live())
            advance(1)
    return {**run.finish(began), "reused": False}


def listed(recipe: LearnRecipe) -> tuple[list[list[Shard]], str]:
    """The shards of each of the recipe's data, and the hash of them all: by content, so a copy has the same."""
    shards = [open_shards(url, recipe.options) for url in recipe.data]
    return shards, digest([[list(shard.ref) for shard in some] for some in shards])


def finished(recipe: LearnRecipe, listing: str) -> dict[str, Any] | None:
    """The summary of this very run, if it is there."""
    try:
        found: dict[str, Any] = json.loads(open_store(recipe.output, recipe.options).get("summary.json"))
    except (NotFoundError, ValueError):
        return None
    same = found.get("identity") == recipe.identity and found.get("data_sha256") == listing
    compared = (found.get("against") or {}).get("run") == recipe.compare
    return found if same and compared else None


def read(recipe: LearnRecipe, shards: list[list[Shard]], listing: str, progress: Progress) -> Data:
    """Candidates and held-out samples into memory."""
    part: Part = "train" if recipe.holdout else "all"
    parts: list[Examples] = []
    fields: dict[str, list[str]] = {name: [] for name in (*recipe.by, *(["data"] if len(shards) > 1 else []))}
    skipped: Counter[str] = Counter()
    budget = BUDGET
    for url, some in zip(recipe.data, shards, strict=True):
        stream = _stream(some, recipe, part)
        with progress(f"Reading {url}", None) as advance:
            found = gather(stream, budget=budget, advance=advance)
        if found is None:
            text = f"{', '.join(recipe.data)} does not fit into {BUDGET >> 30} GiB of memory at {stream.size} px"
            raise UserError(text, fix="select from fewer shards, or a smaller snapshot")
        budget -= found.pixels.nbytes
        skipped += stream.skipped
        values = [split_label(label) for label in found.labels]
        for place, name in enumerate(recipe.by):
            fields[name] += [value[1 + place] for value in values]
        if "data" in fields:
            fields["data"] += [url] * len(found)
        parts.append(_relabelled(found, [value[0] for value in values]))
    pool = Examples.joined(parts)
    if len(pool) < 2:
        reasons = ", ".join(f"{reason} {n}" for reason, n in skipped.items()) or "none"
        raise EmptyCorpusError(f"{', '.join(recipe.data)} has {len(pool)} samples to train on (skipped: {reasons})")
    return Data(pool, _held_out(recipe, shards, progress), fields, listing, dict(skipped))


def evaluation(learner: Learner, held_out: Examples) -> dict[str, Any]:
    """Figures of a learner; `quality` is the one that runs are compared by: recall@5, both ways, or accuracy."""
    if isinstance(learner, ClassLearner):
        found = accuracy(learner, held_out)
        return {"quality": found.rate, "accuracy": asdict(found)}
    assert isinstance(learner, ClipLearner)
    results = evaluate(learner.encoder(), held_out)
    if "retrieval" not in results:
        raise UserError(
            "there are too few held-out samples to evaluate on", fix="a larger holdout:, or evaluation: URL"
        )
    ways = [results["retrieval"][f"{way}_recall@5"]["rate"] for way in ("i2t", "t2i")]
    return {"quality": sum(ways) / 2, **results}


def column_losses(recipe: LearnRecipe, column: str, uids: list[str]) -> Tensor:
    """float32 `[N]`: minus the score that the snapshots' manifests hold of each sample. Costs no forward pass."""
    from curation.corpus import open_corpus
    from curation.snapshot import open_snapshot

    found: dict[str, float] = {}
    for url in recipe.data:
        located = url
        if open_store(url.partition("@")[0], recipe.options).exists("LATEST") and "@" not in url:
            located = f"{url.rstrip('/')}@latest"
        corpus = open_corpus(located, recipe.options)
        if corpus.snapshot is None:
            text = f"{url} is no snapshot, so it has no score {column}"
            raise UserError(text, fix="curate it first, or give the reference as `weights:`")
        snapshot = open_snapshot(corpus.root, corpus.snapshot, recipe.options)
        names = snapshot.reader().schema.names
        if column not in names:
            text = f"the manifest of {url} has no column {column}"
            raise UserError(text, fix=f"it has: {', '.join(names)}")
        for batch in snapshot.reader(["uid", column]):
            keys, values = (item.to_pylist() for item in batch.columns)
            found.update((_hex(key), value) for key, value in zip(keys, values, strict=True) if value is not None)
    missing = [uid for uid in uids if uid not in found]
    if missing:
        raise UserError(f"sample {missing[0]} has no score {column}", fix="score the snapshot with that scorer")
    return torch.tensor([-found[uid] for uid in uids], dtype=torch.float32)


def load_into(model: Learner, tensors: dict[str, Tensor], origin: str) -> None:
    """Weights into a learner's module: a reference, which is never trained."""
    from curation.models.dual import load_tensors

    load_tensors(model.module, tensors, model.model, origin)


def trained_flops(weights: str, recipe: LearnRecipe) -> float:
    """What the training of a reference has cost: from the card (or summary) that lies beside its weights; 0 without."""
    folder = open_store(weights.rpartition("/")[0] or ".", recipe.options)
    for name in ("card.json", "summary.json"):
        try:
            card = json.loads(folder.get(name))
        except (NotFoundError, ValueError):
            continue
        if "flops" in card:
            return float(card["flops"]["totals"]["full"])
        found = cost(card["model"])
        samples = int(card["steps"]) * int(card["recipe"]["training"]["batch"])
        return 3.0 * (found.image_flops + found.text_flops) * samples
    return 0.0


def summary_of(url: str, recipe: LearnRecipe) -> dict[str, Any]:
    """The summary of another run. Raises `UserError` where there is none."""
    try:
        found: dict[str, Any] = json.loads(open_store(url, recipe.options).get("summary.json"))
        return found
    except NotFoundError:
        raise UserError(f"{url} holds no finished run to compare with", fix="run that one first") from None


def curve_of(summary: Mapping[str, Any]) -> list[Point]:
    """The learning curve of a run from its summary."""
    return [Point(row["updates"], row["quality"], row["totals"]) for row in summary["curve"]]


def _held_out(recipe: LearnRecipe, shards: list[list[Shard]], progress: Progress) -> Examples:
    if recipe.evaluation is None and not recipe.holdout:
        raise UserError("there is nothing to evaluate on", fix="holdout: 0.05, or evaluation: URL")
    places = shards if recipe.evaluation is None else [open_shards(recipe.evaluation, recipe.options)]
    whole = not recipe.holdout or (recipe.evaluation is not None and isinstance(recipe.learner, Classification))
    part: Part = "all" if whole else "held_out"
    stream = _stream([shard for some in places for shard in some], recipe, part)
    with progress("Reading the held-out part", None) as advance:
        found = gather(stream, limit=MAX_EVALUATED, advance=advance)
    if found is None or len(found) < 2:
        raise UserError("there are too few held-out samples to evaluate on", fix="a larger holdout:")
    return _relabelled(found, [split_label(label)[0] for label in found.labels])


def _stream(shards: list[Shard], recipe: LearnRecipe, part: Part) -> SampleStream:
    view = preprocess_for(recipe.learner.model)
    label, group = "name", "name"
    if isinstance(recipe.learner, Classification):
        label, group = recipe.learner.label, ""  # by name, a held-out sample could be of a class that nobody has seen
    return SampleStream(
        shards, size=view.size, mode=view.mode, shuffle=0, part=part, holdout=recipe.holdout, label=(label, *recipe.by),
        group=group,
    )  # fmt: skip


def _relabelled(examples: Examples, labels: list[str]) -> Examples:
    return Examples(examples.pixels, examples.captions, examples.uids, labels)


def _hex(uid: bytes | str) -> str:
    return uid if isinstance(uid, str) else uid.hex()
