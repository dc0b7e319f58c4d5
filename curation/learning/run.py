"""A run of online selection and its record: metrics, policy, ledger, evaluations, checkpoints, summary.

`Run` records steps wherever they are made: by `steps` in this process, or by `actors.learning` on a cluster.

Files of a run, below its output:
    metrics.jsonl               a line every few steps, and one for each evaluation
    policy/                     the choices (`curation.selection.policy`)
    checkpoints/                to resume from (`curation.selection.checkpoint`)
    <model>.safetensors         the learner's weights, averaged where its settings average them
    summary.json                written last, so that it marks a finished run
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any

import torch

from curation.core.errors import UserError
from curation.learners.learner import Learner
from curation.learning.comparison import CAPTIONS, Comparison
from curation.learning.data import Data, split_of
from curation.learning.flop_prices import prices
from curation.learning.loop_time import LoopTime
from curation.learning.metrics import Window, training_row
from curation.learning.participants import Participants
from curation.learning.pinned_input import policy_of
from curation.learning.run_state import pending_choices, pending_facts, pending_tensors, read_metrics
from curation.models.weights import tensors_to_bytes
from curation.recipes.learning_recipe import LearnRecipe
from curation.selection import checkpoint
from curation.selection.checkpoint import Checkpoint
from curation.selection.flops import ComputeLedger, Point, unit_of
from curation.selection.online import Choice, OnlineStep, online_selection
from curation.selection.policy import Policy
from curation.selection.policy_replay import replay
from curation.selection.policy_writer import PolicyWriter
from curation.selection.pool_blocks import Blocks, PoolPosition
from curation.storage.store import open_store

LOG_EVERY = 10  # steps between two lines of metrics
OTHER_HELD_OUT = "other held-out samples"  # an event in the metrics: later figures are of other samples

Ahead = Callable[[], tuple[PoolPosition, Sequence[Choice]]]


class Run:
    """The models of a run and its record. Pass every step to `record`, then call `finish`.

    Creating it resumes from the latest checkpoint of its output, if there is one. learners: processes that share a
    batch. Raises `UserError` for a checkpoint that this recipe or these data can't continue.
    """

    def __init__(
        self, recipe: LearnRecipe, data: Data, blocks: Blocks, device: torch.device, *, learners: int = 1
    ) -> None:
        self.recipe, self.data, self.device, self.learners = recipe, data, device, learners
        self.store = data.output
        self.participants = Participants(recipe, data, blocks, device)
        assert self.participants.learner is not None
        self.learner: Learner = self.participants.learner
        self.pool = self.participants.pool
        priced, self._uncounted = prices(self.participants, learners)
        self.ledger = ComputeLedger(priced)
        self.scoring = self.participants.scoring()
        self.metrics: list[dict[str, Any]] = []
        self.pending: deque[Choice] = deque()  # chosen, and not trained on yet
        self.ahead: Ahead = lambda: (self.pool.place, self.pending)  # the part of these that a checkpoint holds
        self._comparison: Comparison | None = None
        if data.compared is not None:
            self._comparison = Comparison(recipe, data, blocks.room, data.compared)
            self._uncounted = [*self._uncounted, *self._comparison.uncounted]
        self._window = Window()
        self._loop = LoopTime(self.participants.timed, lambda: self.ledger.parts())
        self._began, self._before = time.monotonic(), 0.0  # seconds of the run's earlier parts
        found = checkpoint.latest(self.store, {"identity": recipe.identity}, recipe.document)
        if found is not None:
            self._resume(found)
        self._standing = self._stand()
        folder = open_store(f"{recipe.output.rstrip('/')}/policy", recipe.options)
        self.policy = PolicyWriter(folder, self.pool, begin=self.learner.steps)

    def steps(self) -> Iterator[OnlineStep]:
        """Make the remaining steps in this process; yields each."""
        recipe, roles, settings = self.recipe, self.participants.roles(), self.recipe.learner
        if recipe.replay is None:
            yield from online_selection(
                roles, self.pool, recipe.selection, steps=settings.steps, batch=settings.batch, seed=settings.seed,
                pending=self.pending,
            )  # fmt: skip
            return
        policy = policy_of(recipe)
        _check_replay(policy, recipe)
        yield from replay(roles.learner, self.pool, policy, settings.steps, shared=self.learners)

    def record(self, step: OnlineStep, **more: float) -> None:
        """Record a step after it was made, and evaluate and save when due.

        more: further numbers for the metrics, among them `waited_seconds` of the loop for the step's choice.
        """
        recipe, done = self.recipe, step.number + 1
        self.ledger.add(step, self.participants.roles(), self.scoring, self.participants.text_lengths(step))
        self.policy.add(step.choice)
        self._window.add(step.choice, self._values(step.choice), more)
        self._loop.waited(more.get("waited_seconds", 0.0))
        last = done == recipe.learner.steps
        logs, evaluates, saves = (
            done % every == 0 or last for every in (LOG_EVERY, recipe.evaluate_every, recipe.checkpoint_every)
        )
        if logs or evaluates or saves or done == 1:  # not always: reading the loss makes a GPU wait
            self._check(step)
        if logs or saves or done == 1:  # a checkpoint holds complete lines only
            self._log(step)
        with self._loop.apart():
            if evaluates:
                self.evaluate(done)
            if saves:
                self.save()
        self._loop.updated()

    def _values(self, choice: Choice) -> dict[str, list[str]]:
        """Return the candidates' fields by which metrics group them.

        A replay trains on all its candidates, so every share is 1: its shards are not read again for that.
        """
        replays = self.recipe.replay is not None and self.pool.blocks.room is not None
        return {} if replays else self.pool.values(choice.candidates)

    def evaluate(self, done: int) -> None:
        """Evaluate the learner after `done` updates: a point of the learning curve."""
        found = self.learner.evaluate(self.data.held_out)
        self.metrics.append({"step": done, "quality": found["quality"], "flops": self.ledger.totals(), **found})
        self._standing = self._stand()

    @property
    def curve(self) -> list[Point]:
        """The learning curve so far, on the present held-out samples."""
        begin = max((n for n, row in enumerate(self.metrics) if row.get("event") == OTHER_HELD_OUT), default=0)
        return [Point(row["step"], row["quality"], row["flops"]) for row in self.metrics[begin:] if "quality" in row]

    def live(self) -> str:
        """Return the ledger of compute in a few words, for the progress line."""
        full, learning = self.ledger.totals()["full"], self.ledger.parts()["learning"]
        name, size = unit_of(full)
        share = f" ({full / learning:.2f} x learning)" if learning else ""
        return f"{full / size:.2f} {name}{share}{self._standing}"

    def seconds(self) -> dict[str, float]:
        """Return device-seconds by role, of the whole run."""
        return {name: round(timed.before + timed.seconds, 2) for name, timed in self.participants.timed.items()}

    def elapsed(self) -> float:
        """Return seconds by the clock, of the whole run; work that was repeated after a death counts once."""
        return round(self._before + time.monotonic() - self._began, 1)

    def save(self) -> None:
        """Write a checkpoint, and everything that was recorded up to it."""
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
            "pending": pending_facts(pending),
            "reference_place": None if reference_pool is None else list(reference_pool.place),
            "ledger": counts,
            "seconds": self.seconds(),
            "elapsed": self.elapsed(),
        }
        checkpoint.save(self.store, self.participants.learning(), facts, tensors=pending_tensors(pending))

    def finish(self) -> dict[str, Any]:
        """Write weights and summary; return the summary."""
        overhead = self._loop.document()
        metadata = {"format": "pt", "model": self.recipe.learner.model, **self.learner.metadata()}
        data = tensors_to_bytes(self.learner.tensors(), metadata)
        key = f"{self.recipe.learner.model}.safetensors"
        self.store.put(key, data)
        read = self.pool.blocks.read.copy()  # a thread may still read ahead
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
            # Counted since the run was started or resumed: with windows, perhaps not all samples.
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
            "overhead": overhead,  # None: fewer than two updates since the run was started or resumed
            "uncounted": self._uncounted,
            "split": asdict(split_of(self.recipe)),
            "unchecked": list(self.data.unchecked),
            "against": self._against(),
        }
        self.store.put("summary.json", json.dumps(summary, indent=2).encode())
        return summary

    def _cut(self) -> dict[str, int] | None:
        """Return the size of the largest super-batch and of the pool, where the pool is smaller."""
        if self.pool.blocks.room is not None:
            return None  # then it is an error
        extent, selection = self.pool.blocks.extent(0, 0), self.recipe.selection
        wanted = selection.largest_super_batch(self.recipe.learner.batch)
        return {"wanted": wanted, "pool": extent.size} if extent is not None and wanted > extent.size else None

    def _against(self) -> dict[str, Any] | None:
        """Return what selection saved against the named uniform run."""
        if self._comparison is None:
            return None
        return self._comparison.document(self.curve, self._uncounted, self.elapsed(), self.seconds())

    def _stand(self) -> str:
        """Return in a few words how good the learner is, and whether that has paid. Changes at evaluations only."""
        curve = self.curve
        if not curve:
            return ""
        beside = "" if self._comparison is None else self._comparison.standing(curve, self._uncounted)
        return f", quality {curve[-1].quality:.3f}{beside}"

    def _resume(self, found: Checkpoint) -> None:
        """Resume from a checkpoint. If the data have changed since, a new epoch of them begins."""
        found.restore(self.participants.learning())
        facts = found.facts
        place = PoolPosition(*facts["place"])
        same = facts["data_sha256"] == self.data.sha256
        same_held_out = facts.get("held_out_sha256") == self.data.held_out_sha256
        if not (same and same_held_out) and found.updates >= self.recipe.learner.steps:
            what = "judged on other held-out samples" if same else "finished on other data, weights or choices"
            text = f"{self.recipe.output} holds this run, {what} ({', '.join(facts['data'])})"
            raise UserError(text, fix="name another output for a run on the present data")
        if not same and self.recipe.replay is not None:
            text = f"{self.recipe.output} has replayed {found.updates:,} steps of another policy or on other data"
            raise UserError(text, fix="name another output, or delete its checkpoints")
        in_step = same and facts.get("room") == self.pool.blocks.room  # else the epoch's windows are others
        self.pool.place = place if in_step else PoolPosition(place.epoch + 1)
        if same:
            self.pending.extend(pending_choices(found))
        if self.participants.reference_pool is not None:
            self.participants.reference_pool.place = PoolPosition(*facts["reference_place"])
        self.ledger = ComputeLedger(self.ledger.prices, **facts["ledger"])
        self._before = facts["elapsed"]
        for name, timed in self.participants.timed.items():
            timed.before = facts["seconds"].get(name, 0.0)
        self.metrics = [row for row in read_metrics(self.store) if row["step"] <= found.updates]
        self.metrics += [
            {"step": found.updates, "event": "a checkpoint that can't be read", "checkpoint": key}
            for key in found.unreadable
        ]
        for changed, event in (
            (not same, {"event": "other data", "data": list(self.data.urls), "data_sha256": self.data.sha256}),
            (not same_held_out, {"event": OTHER_HELD_OUT, "held_out_sha256": self.data.held_out_sha256}),
        ):
            if changed:
                self.metrics.append({"step": found.updates, **event})

    def _check(self, step: OnlineStep) -> None:
        """Raise `UserError` for a loss that is infinite or NaN."""
        reports = ("", step.report), ("online model's ", step.online_report), ("reference's ", step.reference_report)
        for whose, report in reports:
            if report is not None and not (loss := float(report.loss)) < float("inf"):
                fix = f"a lower learning rate than {report.lr:g}"
                raise UserError(f"the {whose}loss is {loss} at step {step.number + 1}", fix=fix)

    def _log(self, step: OnlineStep) -> None:
        row = training_row(step, self.participants.timed)
        self.metrics.append({**row, "flops": self.ledger.totals(), **self._window.row()})
        self._window = Window()


def _check_replay(policy: Policy, recipe: LearnRecipe) -> None:
    """Raise `UserError` for a policy with fewer steps than the recipe, or sub-batches of another size."""
    steps, batch = policy.steps_and_batch()
    wanted = recipe.learner
    if steps < wanted.steps or batch != wanted.batch:
        text = f"{recipe.replay} chose {steps:,} times {batch} samples, not {wanted.steps:,} times {wanted.batch}"
        raise UserError(text, fix=f"learner steps: {steps} and batch: {batch}, or another run")
