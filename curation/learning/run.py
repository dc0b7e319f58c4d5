"""A run of online selection and its record: metrics, policy, ledger, evaluations, checkpoints, summary.

`Run` is the same however steps are made: `steps` makes them in this process; `actors.learning` on a cluster.

Files of a run, under its output:
    metrics.jsonl               a line every few steps, and one an evaluation
    policy/                     what was chosen (`curation.selection.policy`)
    checkpoints/                to go on from (`curation.selection.checkpoint`)
    <model>.safetensors         the learner's weights (averaged ones where it has them)
    summary.json                last: its presence says that the run is whole
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from curation.core.errors import LedgerError, NotFoundError, UserError
from curation.learners.learner import Learner
from curation.learning.data import Data, policy_of, split_of
from curation.learning.metrics import Window, training_row
from curation.learning.participants import Participants
from curation.learning.prices import prices
from curation.learning.results import (
    curve_of,
    differences,
    judged_alike,
    summary_of,
    summary_sha256,
    verdict,
)
from curation.ledger.documents import parse
from curation.ledger.documents.learning import MetricsRow
from curation.models.weights import tensors_to_bytes
from curation.recipes.learning_recipe import LearnRecipe
from curation.selection import checkpoint
from curation.selection.checkpoint import Checkpoint
from curation.selection.flops import ComputeLedger, Payoff, Point, payoff, unit_of
from curation.selection.online import Choice, OnlineStep, online_selection
from curation.selection.policy import Policy, PolicyWriter, replay
from curation.selection.pool import Blocks, PoolPosition
from curation.storage.store import Store, open_store

CAPTIONS = "trimmed"  # how the ledger counts them; summaries of earlier versions don't say, and had the full context
LOG_EVERY = 10  # steps between two lines of metrics
OTHER_HELD_OUT = "other held-out samples"  # an event, from which on figures are no longer of the same samples

Ahead = Callable[[], tuple[PoolPosition, Sequence[Choice]]]


class Run:
    """Everything that takes part in one run, and its record. Make it, then give `record` every step.

    Making it goes on from the latest checkpoint of its output, if there is one.
    """

    def __init__(self, recipe: LearnRecipe, data: Data, blocks: Blocks, device: torch.device) -> None:
        self.recipe, self.data, self.device = recipe, data, device
        self.store = open_store(recipe.output, recipe.options)
        self.participants = Participants(recipe, data, blocks, device)
        assert self.participants.learner is not None
        self.learner: Learner = self.participants.learner
        self.pool = self.participants.pool
        priced, self._uncounted = prices(self.participants)
        self.ledger = ComputeLedger(priced)
        self.scoring = self.participants.scoring()
        self.metrics: list[dict[str, Any]] = []
        self.pending: deque[Choice] = deque()  # chosen, and not trained on yet
        self.ahead: Ahead = lambda: (self.pool.place, self.pending)  # what a checkpoint holds of these
        self._compared = summary_of(recipe.compare, recipe) if recipe.compare else None
        if self._compared is not None and self._compared["flops"].get("captions") != CAPTIONS:
            self._uncounted = [
                *self._uncounted,
                f"{recipe.compare} counts captions at their full context: run it again",
            ]
        self._window = Window()
        self._began, self._before = time.monotonic(), 0.0  # seconds of the run's earlier parts
        found = checkpoint.latest(self.store, {"identity": recipe.identity}, recipe.document)
        if found is not None:
            self._resume(found)
        self._standing = self._stand()
        folder = open_store(f"{recipe.output.rstrip('/')}/policy", recipe.options)
        self.policy = PolicyWriter(folder, self.pool, begin=self.learner.steps)

    def steps(self) -> Iterator[OnlineStep]:
        """The steps that are left, made in this process."""
        recipe, roles, settings = self.recipe, self.participants.roles(), self.recipe.learner
        if recipe.replay is None:
            yield from online_selection(
                roles, self.pool, recipe.selection, steps=settings.steps, batch=settings.batch, seed=settings.seed,
                pending=self.pending,
            )  # fmt: skip
            return
        policy = policy_of(recipe.replay, recipe.options)
        _check_replay(policy, recipe)
        learners = 1 if recipe.compute is None else recipe.compute.learners
        yield from replay(roles.learner, self.pool, policy, settings.steps, shared=learners)

    def record(self, step: OnlineStep, **more: float) -> None:
        """Everything that is kept of a step, after it was made. `more`: other numbers of it, for the metrics."""
        recipe, done = self.recipe, step.number + 1
        self.ledger.add(step, self.participants.roles(), self.scoring, self.participants.text_lengths(step))
        self.policy.add(step.choice)
        self._window.add(step.choice, self._values(step.choice), more)
        last = done == recipe.learner.steps
        logs, evaluates, saves = (
            done % every == 0 or last for every in (LOG_EVERY, recipe.evaluate_every, recipe.checkpoint_every)
        )
        if logs or evaluates or saves or done == 1:  # not always: a loss that is looked at makes a GPU wait
            self._check(step)
        if logs or saves or done == 1:  # a checkpoint holds nothing of the lines that are still to come
            self._log(step)
        if evaluates:
            self.evaluate(done)
        if saves:
            self.save()

    def _values(self, choice: Choice) -> dict[str, list[str]]:
        """By which metrics tell candidates apart. A replay trains on all that it is offered, so its shares are 1; where
        its shards are not in memory, they are not read again for that."""
        replays = self.recipe.replay is not None and self.pool.blocks.room is not None
        return {} if replays else self.pool.values(choice.candidates)

    def evaluate(self, done: int) -> None:
        """A point of the learning curve."""
        found = self.learner.evaluate(self.data.held_out)
        self.metrics.append({"step": done, "quality": found["quality"], "flops": self.ledger.totals(), **found})
        self._standing = self._stand()

    @property
    def curve(self) -> list[Point]:
        """The learning curve so far, on today's held-out samples."""
        begin = max((n for n, row in enumerate(self.metrics) if row.get("event") == OTHER_HELD_OUT), default=0)
        return [Point(row["step"], row["quality"], row["flops"]) for row in self.metrics[begin:] if "quality" in row]

    def live(self) -> str:
        """The ledger of compute in a few words, for the progress line."""
        full, learning = self.ledger.totals()["full"], self.ledger.parts()["learning"]
        name, size = unit_of(full)
        share = f" ({full / learning:.2f} x learning)" if learning else ""
        return f"{full / size:.2f} {name}{share}{self._standing}"

    def seconds(self) -> dict[str, float]:
        """Seconds on devices by role, of the whole run."""
        return {name: round(timed.before + timed.seconds, 2) for name, timed in self.participants.timed.items()}

    def elapsed(self) -> float:
        """Seconds by the clock, of the whole run; what was done twice, because a process died between, counts once."""
        return round(self._before + time.monotonic() - self._began, 1)

    def save(self) -> None:
        """A checkpoint, with all that was recorded up to it."""
        self.policy.close()
        self.store.put("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in self.metrics).encode())
        counts = {name: value for name, value in asdict(self.ledger).items() if name != "prices"}
        place, pending = self.ahead()
        reference_pool = self.participants.reference_pool
        facts = {
            "identity": self.recipe.identity,
            "recipe": self.recipe.document,
            "data": list(self.data.urls),
            "data_sha256": self.data.sha256,
            "held_out_sha256": self.data.held_out_sha256,
            "room": self.pool.blocks.room,
            "classes": self.data.classes,
            "place": list(place),
            "pending": [{"number": one.number, "lag": one.lag, "models": dict(one.models)} for one in pending],
            "reference_place": None if reference_pool is None else list(reference_pool.place),
            "ledger": counts,
            "seconds": self.seconds(),
            "elapsed": self.elapsed(),
        }
        checkpoint.save(self.store, self.participants.learning(), facts, tensors=_tensors(pending))

    def finish(self) -> dict[str, Any]:
        """Weights and summary; returns the summary."""
        metadata = {"format": "pt", "model": self.recipe.learner.model, **self.learner.metadata()}
        data = tensors_to_bytes(self.learner.tensors(), metadata)
        key = f"{self.recipe.learner.model}.safetensors"
        self.store.put(key, data)
        read = self.pool.blocks.read.copy()  # somebody may still read ahead
        summary = {
            "identity": self.recipe.identity,
            "data": list(self.data.urls),
            "data_sha256": self.data.sha256,
            "candidates_sha256": self.data.candidates.sha256,
            "held_out_sha256": self.data.held_out_sha256,
            "recipe": self.recipe.document,
            "weights": self.store.location(key),
            "key": key,
            "sha256": sha256(data).hexdigest(),
            "steps": self.learner.steps,
            # Of what was read since the run began or went on: over windows perhaps not all that there is.
            "samples": {"pool": sum(read.samples.values()), "held_out": len(self.data.held_out)},
            "skipped": dict(read.skipped),
            "cut": self._cut(),
            "room": self.pool.blocks.room,
            "quality": self.curve[-1].quality,
            "evaluation": next(row for row in reversed(self.metrics) if "quality" in row),
            "curve": [point._asdict() for point in self.curve],
            "flops": {"parts": self.ledger.parts(), "totals": self.ledger.totals(), "captions": CAPTIONS},
            "repeated": self.ledger.repeated._asdict(),
            "device": str(self.device),
            "device_seconds": self.seconds(),
            "seconds": self.elapsed(),
            "uncounted": self._uncounted,
            "split": asdict(split_of(self.recipe)),
            "unchecked": list(self.data.unchecked),
            "against": self._against(),
        }
        self.store.put("summary.json", json.dumps(summary, indent=2).encode())
        return summary

    def _cut(self) -> dict[str, int] | None:
        """Where super-batches were to be larger than all that there is: how large, and what there is."""
        if self.pool.blocks.room is not None:
            return None  # then it is an error
        extent, selection = self.pool.blocks.extent(0, 0), self.recipe.selection
        wanted = selection.largest_super_batch(self.recipe.learner.batch)
        return {"wanted": wanted, "pool": extent.size} if extent is not None and wanted > extent.size else None

    def _against(self) -> dict[str, Any] | None:
        """What was saved against the named uniform run."""
        other = self._compared
        if other is None:
            return None
        found = payoff(self.curve, curve_of(other)) if judged_alike(self._differs) else None
        nothing = dict.fromkeys(Payoff.__dataclass_fields__)
        return {
            "run": self.recipe.compare,
            "sha256": summary_sha256(other),
            "differs": self._differs,
            **(nothing if found is None else asdict(found)),
            "compute_positive": None if found is None else self._positive(found),
            "seconds": {"this": self.elapsed(), "compared": other["seconds"]},
            "device_seconds": {"this": sum(self.seconds().values()), "compared": sum(other["device_seconds"].values())},
        }

    @cached_property
    def _differs(self) -> list[str]:
        """In what the named run differs: the same all along."""
        assert self._compared is not None
        return differences(self.recipe, self.data, self.pool.blocks.room, self._compared)

    def _positive(self, found: Payoff) -> bool | None:
        """Whether the run was cheaper; None where something that may change the answer is not known."""
        return None if found.compute_positive and self._uncounted else found.compute_positive

    def _stand(self) -> str:
        """How good the learner is and whether that has paid, in a few words: news at an evaluation alone."""
        curve = self.curve
        if not curve:
            return ""
        text = f", quality {curve[-1].quality:.3f}"
        if self._compared is None:
            return text
        if not judged_alike(self._differs):
            return f"{text} (judged on other samples than {self.recipe.compare})"
        found = payoff(curve, curve_of(self._compared))
        arrived = "not yet" if found.updates is None else f"after {found.updates:,} steps"
        return f"{text} ({found.target:.3f}: {arrived}, compute_positive: {verdict(self._positive(found))})"

    def _resume(self, found: Checkpoint) -> None:
        """Go on from a checkpoint. With other data than it was made with, a new epoch of these begins."""
        found.restore(self.participants.learning())
        facts = found.facts
        place = PoolPosition(*facts["place"])
        same = facts["data_sha256"] == self.data.sha256
        judged_alike = facts.get("held_out_sha256") == self.data.held_out_sha256
        if not (same and judged_alike) and found.updates >= self.recipe.learner.steps:
            what = "judged on other held-out samples" if same else "finished on other data, weights or choices"
            text = f"{self.recipe.output} holds this run, {what} ({', '.join(facts['data'])})"
            raise UserError(text, fix="name another output for a run on today's data")
        if not same and self.recipe.replay is not None:
            text = f"{self.recipe.output} has replayed {found.updates:,} steps of another policy or on other data"
            raise UserError(text, fix="name another output, or delete its checkpoints")
        in_step = same and facts.get("room") == self.pool.blocks.room  # else the epoch's windows are others
        self.pool.place = place if in_step else PoolPosition(place.epoch + 1)
        if same:
            self.pending.extend(_choices(found))
        if self.participants.reference_pool is not None:
            self.participants.reference_pool.place = PoolPosition(*facts["reference_place"])
        self.ledger = ComputeLedger(self.ledger.prices, **facts["ledger"])
        self._before = facts["elapsed"]
        for name, timed in self.participants.timed.items():
            timed.before = facts["seconds"].get(name, 0.0)
        self.metrics = [row for row in _rows(self.store) if row["step"] <= found.updates]
        self.metrics += [
            {"step": found.updates, "event": "a checkpoint that can't be read", "checkpoint": key}
            for key in found.unreadable
        ]
        for changed, event in (
            (not same, {"event": "other data", "data": list(self.data.urls), "data_sha256": self.data.sha256}),
            (not judged_alike, {"event": OTHER_HELD_OUT, "held_out_sha256": self.data.held_out_sha256}),
        ):
            if changed:
                self.metrics.append({"step": found.updates, **event})

    def _check(self, step: OnlineStep) -> None:
        reports = ("", step.report), ("online model's ", step.online_report), ("reference's ", step.reference_report)
        for whose, report in reports:
            if report is not None and not (loss := float(report.loss)) < float("inf"):
                fix = f"a lower learning rate than {report.lr:g}"
                raise UserError(f"the {whose}loss is {loss} at step {step.number + 1}", fix=fix)

    def _log(self, step: OnlineStep) -> None:
        row = training_row(step, self.participants.timed)
        self.metrics.append({**row, "flops": self.ledger.totals(), **self._window.row()})
        self._window = Window()


def _rows(store: Store) -> list[dict[str, Any]]:
    """The metrics of a run so far. Raises `UserError` where they are gone: without them there is no learning curve."""
    try:
        lines = store.get("metrics.jsonl").decode().splitlines()
        return [parse(line.encode(), MetricsRow, "a line of metrics.jsonl", "").to_json() for line in lines]
    except (NotFoundError, LedgerError, UnicodeDecodeError):
        text = f"{store.location('metrics.jsonl')} is gone or damaged, which the checkpoint goes on from"
        raise UserError(text, fix="put it back, or delete the checkpoints to begin anew") from None


def _check_replay(policy: Policy, recipe: LearnRecipe) -> None:
    """Raises `UserError` for a policy that ends before the recipe does, or has sub-batches of another size."""
    steps, batch = policy.extent()
    wanted = recipe.learner
    if steps < wanted.steps or batch != wanted.batch:
        text = f"{recipe.replay} chose {steps:,} times {batch} samples, not {wanted.steps:,} times {wanted.batch}"
        raise UserError(text, fix=f"learner steps: {steps} and batch: {batch}, or another run")


def _tensors(pending: Sequence[Choice]) -> Mapping[str, Tensor]:
    """The choices of a checkpoint that are no facts: rows and scores."""
    found: dict[str, Tensor] = {}
    for one in pending:
        parts = {"candidates": one.candidates, "scores": one.scores, "chosen": one.chosen}
        found |= {f"pending.{one.number}.{name}": part for name, part in parts.items() if part is not None}
    return found


def _choices(found: Checkpoint) -> Iterator[Choice]:
    for fact in found.facts["pending"]:
        number = fact["number"]
        candidates, scores, chosen = (
            found.tensors.get(f"pending.{number}.{name}") for name in ("candidates", "scores", "chosen")
        )
        assert candidates is not None and chosen is not None
        yield Choice(number, candidates, scores, chosen, fact["lag"], fact["models"])
