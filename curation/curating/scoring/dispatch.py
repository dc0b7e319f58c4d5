"""Streaming scoring on a pool of workers: units -> fetch and decode -> batches -> models -> one table a unit.

A worker takes a few units at a time, loads each model once, batches across its units, gives the rows back to them and
commits each unit as it becomes whole. With GPUs, fetching and decoding run ahead on other CPUs; without, the worker
decodes itself, since its core is the one that the decode task would need. `compute.decode_tasks` decides otherwise.

Why not Ray Data: measured on 2 cores (tests/bench), the same work cost 75 CPU s through its streaming executor and 45
through these workers (8,000 samples; 4.0 against 3.1 GB), for its own actors and the copies between stages.

A death costs work, never a row. The pool starts the worker's process again; what was committed is found and skipped;
the rest of its call goes to another worker. What the process had in work when it died is in its black box: those units
are tried alone, with care, until the sample that ends processes is known (`suspects`). A sample's score does not depend
on its neighbours: on a GPU, where the shape decides which kernel runs, every batch is padded to one shape; on CPUs the
bits are equal anyway (tested).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from curation.core.errors import IncompleteError
from curation.core.executor import CallHandle, Executor, Resources, WorkerDiedError, WorkerPool
from curation.curating.scoring import black_box
from curation.curating.scoring.batches import shard_refs
from curation.curating.scoring.black_box import WorkNote
from curation.curating.scoring.scoring_task import CallProgress, ScoringTask
from curation.curating.scoring.suspects import Suspects
from curation.curating.scoring.unit_scorer import Ready, ScoringWorker, decodes_ahead
from curation.ledger.attempts import CallSettings

MOST_UNITS = 16  # a call: enough that batches cross units, few enough that little is repeated when a worker dies
CALLS_PER_WORKER = 4  # that the units left make, where there are enough of them
DEATHS = 20  # of workers while they load and try their models; then the run ends, since something kills them all
PAUSE_SECONDS = (0.5, 10.0)  # before a worker that died while it started is asked again: doubled with every death
BOX_SECONDS = 60.0  # for the note on another machine; a machine that is gone does not answer
# Once the driver's answers on missing records are older, workers ask again: other drivers may work beside it.
FRESH_SECONDS = 60.0
LOOK_SECONDS = 5.0  # between two looks at the clock, while a worker rests or a note is awaited


def score(job: ScoringTask, units: pa.Table, executor: Executor) -> Iterator[CallProgress]:
    """Score `units` (shard_key, shard_size, shard_etag, and `lacks` where their records were just asked for).

    Yields what was committed, call by call.
    Raises `IncompleteError` where workers die whatever they do, and what a scorer raises for every sample.
    """
    share = Resources(job.compute.num_cpus, job.compute.num_gpus)
    if job.compute.max_actors:
        decoders = decodes_ahead(job.compute)
        spare = job.compute.decode_cpus * (min(decoders, 1) if share.gpus else decoders)  # as in `_Workers.room`
        wanted = min(job.compute.max_actors, units.num_rows)
        executor.reserve(Resources(share.cpus + spare, share.gpus), wanted)
    work = _Work(job, units)
    with executor.pool(partial(ScoringWorker, job), share) as pool:
        workers = _Workers(job, work, executor, pool)
        begun = False
        while work.left() or workers.busy or workers.lost:
            workers.grow()
            begun = begun or workers.ready >= min(job.compute.min_actors, workers.room())
            if workers.idle and begun and (call := work.next(workers.number)) is not None:
                workers.submit(call)
                continue
            yield from workers.next()


def units_per_call(left: int, workers: int) -> int:
    """How many of the `left` units the next call takes: fewer towards the end, so that all end together.

    Guided self-scheduling (Polychronopoulos and Kuck 1987) with an upper limit: what is repeated when a worker dies.
    """
    return max(1, min(MOST_UNITS, left // (CALLS_PER_WORKER * workers)))


@dataclass(frozen=True)
class Call:
    """Units for one call of a worker."""

    number: int
    units: pa.Table
    care: CallSettings


@dataclass
class _Lost:
    """A call whose process died, until what it had in work is known.

    home: where the process ran. memory: whether the engine ended it for memory. until: when the call goes back without
    a note (`time.monotonic`).
    """

    worker: int
    call: Call
    home: Ready
    memory: bool
    until: float


class _Work:
    """The units that are left: those under suspicion first, each alone; those of calls that died; then the rest."""

    def __init__(self, job: ScoringTask, units: pa.Table) -> None:
        self.units, self.start, self.calls, self.asked = units, 0, 0, time.monotonic()
        self.again: deque[pa.Table] = deque()
        self.suspects = Suspects(job, units)
        if known := self.suspects.known():
            self.units = units.filter(pa.array([shard not in known for shard in shard_refs(units)], pa.bool_()))

    def left(self) -> bool:
        return bool(self.suspects.waiting or self.again or self.start < self.units.num_rows)

    def next(self, workers: int) -> Call | None:
        """The next call, or None while what is left is in work."""
        self.calls += 1
        if self.suspects.waiting:
            return Call(self.calls, *self.suspects.next())
        care = CallSettings(self.suspects.size)
        if self.again:
            return Call(self.calls, self.again.popleft(), care)
        if self.start < self.units.num_rows:
            units = self.units.slice(self.start, units_per_call(self.units.num_rows - self.start, workers))
            self.start += units.num_rows
            fresh = time.monotonic() - self.asked < FRESH_SECONDS
            return Call(self.calls, units if fresh else _unasked(units), care)
        return None

    def died(self, call: Call, last: WorkNote | None, memory: bool) -> Iterator[CallProgress]:
        """A call's process has died: what of its units is suspect waits for care, the rest comes again."""
        innocent, given_up = self.suspects.died(call.number, call.units, call.care, last, memory)
        if innocent.num_rows:
            self.again.append(_unasked(innocent))
        if given_up:
            yield CallProgress(failures=tuple(given_up))


class _Workers:
    """The pool of scorers: grows with the engine's capacity, up to what the recipe allows and the units are worth."""

    def __init__(self, job: ScoringTask, work: _Work, executor: Executor, pool: WorkerPool) -> None:
        self.job, self.work, self.executor, self.pool = job, work, executor, pool
        self.units = work.units.num_rows + len(work.suspects.waiting)
        self.number = 0
        self.starting: dict[CallHandle, int] = {}  # the call that ends when a worker is ready -> that worker
        self.resting: list[tuple[float, int]] = []  # died while they started; when they are asked again
        self.idle: deque[int] = deque()
        self.busy: dict[CallHandle, tuple[int, Call]] = {}
        self.lost: list[_Lost] = []  # calls whose process died
        self.boxes: dict[CallHandle, _Lost] = {}  # the call that reads the note of such a process
        self.homes: dict[int, Ready] = {}
        self.deaths = 0

    def room(self) -> int:
        """Workers that the engine has room for now.

        Their number follows from the GPUs, with the share of one decode task left; without GPUs from the cores, of
        which each worker takes those of its decode tasks, too.
        """
        compute, capacity, ahead = self.job.compute, self.executor.capacity(), decodes_ahead(self.job.compute)
        spare = compute.decode_cpus if ahead else 0
        if compute.num_gpus:
            capacity = Resources(capacity.cpus - spare, capacity.gpus)
            room = capacity.fit(Resources(compute.num_cpus, compute.num_gpus))
        else:
            room = capacity.fit(Resources(compute.num_cpus + ahead * spare))
        most: int = min(self.units, compute.max_actors or self.units)
        return max(1, min(room, most))

    @property
    def ready(self) -> int:
        """Workers that have loaded their models."""
        return self.number - len(self.starting) - len(self.resting)

    def grow(self) -> None:
        """Start workers where there is room."""
        while self.number < self.room():
            self._await(self.pool.start())
            self.number += 1

    def submit(self, call: Call) -> None:
        worker = self.idle.popleft()
        self.busy[self.pool.submit(worker, "score", call.number, call.units, call.care)] = worker, call

    def next(self) -> Iterator[CallProgress]:
        """Wait until a call ends, whose result is yielded, or a worker has loaded its models."""
        for when, worker in list(self.resting):
            if time.monotonic() >= when:
                self.resting.remove((when, worker))
                self._await(worker)
        yield from self._overdue()
        calls = [*self.starting, *self.busy, *self.boxes]
        if not calls:
            time.sleep(0.1)
            return
        for handle in self.pool.wait(calls, LOOK_SECONDS if self.resting or self.lost else None):
            if handle in self.starting:
                yield from self._join(handle)
            elif handle in self.boxes:
                yield from self._read(handle)
            elif handle in self.busy:
                yield from self._finish(handle)

    def _finish(self, handle: CallHandle) -> Iterator[CallProgress]:
        worker, call = self.busy.pop(handle)
        try:
            progress: CallProgress = self.pool.result(handle)
        except WorkerDiedError as error:
            self._lose(worker, call, error.memory)
            self._await(worker)
            return
        self.idle.append(worker)
        self.work.suspects.done(call.units, call.care, progress)
        yield progress

    def _lose(self, worker: int, call: Call, memory: bool) -> None:
        """Ask for the note on the machine where the process ran: the worker may never start again."""
        home = self.homes[worker]
        lost = _Lost(worker, call, home, memory, time.monotonic() + BOX_SECONDS)
        self.lost.append(lost)
        self.boxes[self.pool.read(home.place, _read_box)] = lost

    def _read(self, handle: CallHandle) -> Iterator[CallProgress]:
        """Take a note, or none where its machine is gone.

        The note of another call means that the worker's next process has written over it. That process has read it
        before and reports it when it is ready.
        """
        lost = self.boxes.pop(handle)
        try:
            last: WorkNote | None = self.pool.result(handle)
        except WorkerDiedError:
            yield from self._give_back(lost, None)
            return
        if last is not None and last.call == lost.call.number:
            yield from self._give_back(lost, last)

    def _overdue(self) -> Iterator[CallProgress]:
        now = time.monotonic()
        for lost in [lost for lost in self.lost if now >= lost.until]:
            yield from self._give_back(lost, None)

    def _give_back(self, lost: _Lost, last: WorkNote | None) -> Iterator[CallProgress]:
        """Return a call to the queue, once: any idle worker takes its units."""
        if any(lost is other for other in self.lost):
            self.lost = [other for other in self.lost if other is not lost]
            self.boxes = {handle: other for handle, other in self.boxes.items() if other is not lost}
            yield from self.work.died(lost.call, last, lost.memory)

    def _await(self, worker: int) -> None:
        self.starting[self.pool.submit(worker, "ready", self.work.suspects.size)] = worker

    def _join(self, handle: CallHandle) -> Iterator[CallProgress]:
        worker = self.starting.pop(handle)
        try:
            ready: Ready = self.pool.result(handle)  # a model that can't be loaded ends the run here
        except WorkerDiedError as error:
            self._died_starting(worker, error)
            return
        self.homes[worker], self.deaths = ready, 0
        self.idle.append(worker)
        machine = ready.place.machine
        for lost in [lost for lost in self.lost if lost.worker == worker and lost.home.place.machine == machine]:
            yield from self._give_back(lost, ready.last)

    def _died_starting(self, worker: int, error: WorkerDiedError) -> None:
        """Ask it again after a while, unless something kills them all."""
        pause = min(PAUSE_SECONDS[1], PAUSE_SECONDS[0] * 2 ** min(self.deaths, 10))
        if not error.elsewhere:
            self.deaths += 1
            self.work.suspects.less_memory(error.memory)
        if self.deaths > DEATHS:
            fix = "lower compute.batch_size, or compute.max_actors, if memory is what they lack"
            raise IncompleteError("every process dies while it loads and tries the models", fix=fix) from None
        self.resting.append((time.monotonic() + pause, worker))


def _unasked(units: pa.Table) -> pa.Table:
    """Units whose records are asked for again: some may have been committed since the driver asked."""
    return units.select(["shard_key", "shard_size", "shard_etag"])


def _read_box(path: Path) -> WorkNote | None:
    return black_box.read(path)
