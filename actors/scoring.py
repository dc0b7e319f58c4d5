"""Streaming scoring on a pool of Ray actors: units -> fetch and decode -> batches -> models -> one table a unit.

An actor takes a few units at a time, loads each model once, batches across its units, gives the rows back to them and
commits each unit as it becomes whole. With GPUs, fetching and decoding run ahead as streaming Ray tasks on CPU workers;
without, the actor decodes itself, since its core is the one that the task would need.

Why not Ray Data: measured on 2 cores (tests/bench), the same work cost 75 CPU s through its streaming executor and 45
through these actors (8,000 samples; 4.0 against 3.1 GB), for its own actors and the copies between stages.

What dies costs work, never a row: Ray restarts the actor; what was committed is found and skipped; the rest of its call
goes to another one. What it had in work when it died is in its black box: those units are tried alone, with care, until
the sample is known that processes die of (`actors.suspects`). A sample's score doesn't depend on its neighbours: on a
GPU, where the shape decides which kernel runs, every batch is padded to the same one; on CPUs the bits are equal anyway
(tested).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.autoscaler.sdk import request_resources
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors import black_box
from actors.batches import shard_refs
from actors.black_box import WorkNote
from actors.cluster import ClusterError, cpus, explained, gpus
from actors.scorer import CallProgress, Ready, ScorerActor, ScoringTask, decodes_ahead
from actors.suspects import Suspects
from actors.waiting import LOOK_SECONDS, check, get, wait
from curation.core.errors import IncompleteError
from curation.ledger.attempts import CallSettings
from curation.recipes.curation_recipe import Compute

__all__ = ["CallProgress", "ScoringTask", "score", "shard_refs", "units_per_call"]

MOST_UNITS = 16  # a call: enough that batches cross units, few enough that little is repeated when an actor dies
CALLS_PER_ACTOR = 4  # that the units left make, where there are enough of them
DEATHS = 20  # of actors while they load and try their models; then the run ends, since something kills them all
PAUSE_SECONDS = (0.5, 10.0)  # before an actor that died while it started is asked again: doubled with every death
BOX_SECONDS = 60.0  # for what a box on another node holds; a node that is gone does not answer


def score(job: ScoringTask, units: pa.Table) -> Iterator[CallProgress]:
    """Score `units` (shard_key, shard_size, shard_etag); yields what was committed, call by call."""
    if job.compute.max_actors:  # asks a cluster that scales for room; does nothing where there is no autoscaler
        request_resources(bundles=[_resources(job.compute)] * min(job.compute.max_actors, units.num_rows))
    work = _Work(job, units)
    actors = _Actors(job, work)
    begun = False
    try:
        while work.left() or actors.busy or actors.lost:
            actors.grow()
            begun = begun or actors.ready >= min(job.compute.min_actors, actors.room())
            if actors.idle and begun and (call := work.next(len(actors.handles))) is not None:
                actors.submit(call)
                continue
            yield from actors.next()
    except ray.exceptions.RayError as error:
        raise explained(error) from None
    finally:
        actors.kill()


def units_per_call(left: int, actors: int) -> int:
    """How many of the `left` units the next call takes: fewer towards the end, so that all end together.

    Guided self-scheduling (Polychronopoulos and Kuck 1987) with an upper limit: what is repeated when an actor dies.
    """
    return max(1, min(MOST_UNITS, left // (CALLS_PER_ACTOR * actors)))


@dataclass(frozen=True)
class Call:
    """Units for one call of an actor."""

    number: int
    units: pa.Table
    care: CallSettings


@dataclass
class _Lost:
    """A call whose process died, until it is known what was in work. `home`: where the process ran; `memory`: whether
    Ray ended it for memory; `until`: when the call goes back without a note (`time.monotonic`)."""

    actor: Any
    call: Call
    home: Ready
    memory: bool
    until: float


class _Work:
    """The units that are left: those under suspicion first, each alone; those of calls that died; then the rest."""

    def __init__(self, job: ScoringTask, units: pa.Table) -> None:
        self.units, self.start, self.calls = units, 0, 0
        self.again: deque[pa.Table] = deque()
        self.suspects = Suspects(job, units)
        if known := self.suspects.known():
            self.units = units.filter(pa.array([shard not in known for shard in shard_refs(units)], pa.bool_()))

    def left(self) -> bool:
        return bool(self.suspects.waiting or self.again or self.start < self.units.num_rows)

    def next(self, actors: int) -> Call | None:
        """The next call, or None while what is left is in work."""
        self.calls += 1
        if self.suspects.waiting:
            return Call(self.calls, *self.suspects.next())
        care = CallSettings(self.suspects.size)
        if self.again:
            return Call(self.calls, self.again.popleft(), care)
        if self.start < self.units.num_rows:
            units = self.units.slice(self.start, units_per_call(self.units.num_rows - self.start, actors))
            self.start += units.num_rows
            return Call(self.calls, units, care)
        return None

    def died(self, call: Call, last: WorkNote | None, memory: bool) -> Iterator[CallProgress]:
        """A call's process has died: what of its units is suspect waits for care, the rest comes again."""
        innocent, given_up = self.suspects.died(call.number, call.units, call.care, last, memory)
        if innocent.num_rows:
            self.again.append(innocent)
        if given_up:
            yield CallProgress(failures=tuple(given_up))


class _Actors:
    """The pool of scorers: grows with the cluster, up to what the recipe allows and the units are worth."""

    def __init__(self, job: ScoringTask, work: _Work) -> None:
        self.job, self.work, self.units = job, work, work.units.num_rows + len(work.suspects.waiting)
        self.handles: list[Any] = []
        self.starting: dict[Any, Any] = {}  # what tells that an actor is ready -> that actor
        self.resting: list[tuple[float, Any]] = []  # those that died while they started, and when they are asked again
        self.idle: deque[Any] = deque()
        self.busy: dict[Any, tuple[Any, Call]] = {}
        self.lost: list[_Lost] = []  # calls whose process died
        self.boxes: dict[Any, _Lost] = {}  # a task that reads the note of such a process -> its call
        self.homes: dict[Any, Ready] = {}
        self.deaths = 0

    def room(self) -> int:
        """Actors that the cluster has room for now, with a decode task's share left where there are such tasks."""
        compute = self.job.compute
        spare = compute.decode_cpus if decodes_ahead(compute) else 0
        room = (cpus() - spare) / compute.num_cpus
        if compute.num_gpus:
            room = min(room, gpus() / compute.num_gpus)
        most = min(self.units, compute.max_actors or self.units)
        return max(1, min(int(room + 1e-9), most))

    @property
    def ready(self) -> int:
        """Actors that have loaded their models."""
        return len(self.handles) - len(self.starting) - len(self.resting)

    def grow(self) -> None:
        """Start actors where there is room."""
        while len(self.handles) < self.room():
            actor = _remote(self.job.compute).remote(self.job)
            self.handles.append(actor)
            self._await(actor)

    def submit(self, call: Call) -> None:
        actor = self.idle.popleft()
        self.busy[actor.score.remote(call.number, call.units, call.care)] = actor, call

    def next(self) -> Iterator[CallProgress]:
        """Wait until a call ends, whose result is yielded, or an actor has loaded its models."""
        for when, actor in list(self.resting):
            if time.monotonic() >= when:
                self.resting.remove((when, actor))
                self._await(actor)
        yield from self._overdue()
        refs = [*self.starting, *self.busy, *self.boxes]
        if not refs:
            time.sleep(0.1)
            return
        done, _ = wait(refs, timeout=LOOK_SECONDS if self.resting or self.lost else None)
        for ref in done:
            if ref in self.starting:
                yield from self._join(ref)
                continue
            if ref in self.boxes:
                yield from self._read(ref)
                continue
            actor, call = self.busy.pop(ref)
            try:
                progress: CallProgress = get(ref)
            except ray.exceptions.RayActorError as error:
                check()  # a cluster that breaks takes its actors along, and they did nothing
                self._lose(actor, call, _is_memory(error))
                self._await(actor)
                continue
            self.idle.append(actor)
            self.work.suspects.done(call.units, call.care, progress)
            yield progress

    def _lose(self, actor: Any, call: Call, memory: bool) -> None:
        """Ask for the note on the node where the process ran: the actor itself may never start again."""
        home = self.homes[actor]
        lost = _Lost(actor, call, home, memory, time.monotonic() + BOX_SECONDS)
        self.lost.append(lost)
        self.boxes[_open_box(home)] = lost

    def _read(self, ref: Any) -> Iterator[CallProgress]:
        """A note, or an error because its node is gone. A note of another call: the actor has started again and its
        next process has written over the note, so it tells us when it is ready."""
        lost = self.boxes.pop(ref)
        try:
            last: WorkNote | None = get(ref)
        except ray.exceptions.RayError:
            check()
            yield from self._give_back(lost, None)
            return
        if last is not None and last.call == lost.call.number:
            yield from self._give_back(lost, last)

    def _overdue(self) -> Iterator[CallProgress]:
        now = time.monotonic()
        for lost in [lost for lost in self.lost if now >= lost.until]:
            yield from self._give_back(lost, None)

    def _give_back(self, lost: _Lost, last: WorkNote | None) -> Iterator[CallProgress]:
        """Return a call to the queue, once: any idle actor takes its units."""
        if any(lost is other for other in self.lost):
            self.lost = [other for other in self.lost if other is not lost]
            self.boxes = {ref: other for ref, other in self.boxes.items() if other is not lost}
            yield from self.work.died(lost.call, last, lost.memory)

    def _await(self, actor: Any) -> None:
        self.starting[actor.ready.remote(self.work.suspects.size)] = actor

    def _join(self, ref: Any) -> Iterator[CallProgress]:
        actor = self.starting.pop(ref)
        try:
            ready: Ready = get(ref)  # a model that can't be loaded ends the run here
        except ray.exceptions.ActorUnschedulableError as error:
            fix = "lower compute.num_cpus and compute.num_gpus, or add such a node"
            raise ClusterError(f"no node of the cluster can hold a scorer: {_line(error)}", fix=fix) from None
        except ray.exceptions.RayActorError as error:
            check()
            self._died_starting(actor, error)
            return
        self.homes[actor], self.deaths = ready, 0
        self.idle.append(actor)
        for lost in [lost for lost in self.lost if lost.actor is actor and lost.home.node == ready.node]:
            yield from self._give_back(lost, ready.last)

    def _died_starting(self, actor: Any, error: ray.exceptions.RayActorError) -> None:
        """Ray starts it again; it is asked again after a while, unless something kills them all."""
        if error.actor_init_failed:
            raise ClusterError(f"a scorer can't be started: {_line(error)}", fix="--debug shows where") from None
        pause = min(PAUSE_SECONDS[1], PAUSE_SECONDS[0] * 2 ** min(self.deaths, 10))
        if "its node has died" not in str(error) and "owner has died" not in str(error):
            self.deaths += 1
            self.work.suspects.less_memory(_is_memory(error))
        if self.deaths > DEATHS:
            fix = "lower compute.batch_size, or compute.max_actors, if memory is what they lack"
            raise IncompleteError("every process dies while it loads and tries the models", fix=fix) from None
        self.resting.append((time.monotonic() + pause, actor))

    def kill(self) -> None:
        for actor in self.handles:
            ray.kill(actor)


def _open_box(home: Ready) -> Any:
    """A task that reads what a process left on its node; it fails where the node is gone."""
    there = NodeAffinitySchedulingStrategy(home.node, soft=False)
    return ray.remote(_read_box).options(num_cpus=0, scheduling_strategy=there).remote(home.box)


def _read_box(path: Path) -> WorkNote | None:
    return black_box.read(path)


def _is_memory(error: ray.exceptions.RayActorError) -> bool:
    """Whether Ray ended the process since its node was short of memory."""
    return "memory" in str(error) and ("low on memory" in str(error) or "OutOfMemory" in str(error))


def _line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _remote(compute: Compute) -> Any:
    return ray.remote(ScorerActor).options(**_options(compute))


def _options(compute: Compute) -> dict[str, Any]:
    resources = {"num_cpus": compute.num_cpus, "num_gpus": compute.num_gpus or None}
    return {**resources, "max_restarts": -1, "max_task_retries": 0}


def _resources(compute: Compute) -> dict[str, float]:
    spare = compute.decode_cpus if decodes_ahead(compute) else 0
    return {"CPU": compute.num_cpus + spare, **({"GPU": compute.num_gpus} if compute.num_gpus else {})}
