"""Streaming scoring on a pool of Ray actors: units -> fetch and decode -> batches -> models -> one table a unit.

An actor takes a few units at a time, loads each model once, batches across its units, gives the rows back to them and
commits each unit as it becomes whole. With GPUs, fetching and decoding run ahead as streaming Ray tasks on CPU workers;
without, the actor decodes itself, since its core is the one that the task would need.

Why not Ray Data: measured on 2 cores (tests/bench), the same work cost 75 CPU s through its streaming executor and 45
through these actors (8,000 samples; 4.0 against 3.1 GB), for its own actors and the copies between stages.

What dies costs work, never a row: Ray restarts the actor and repeats its call; what was committed is found and skipped;
what a call could not finish is found missing and scored in the next pass. A sample's score doesn't depend on its
neighbours: on a GPU, where the shape decides which kernel runs, every batch is padded to the same one; on CPUs the bits
are equal anyway (tested).
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.autoscaler.sdk import request_resources

from actors.cluster import cpus, gpus, unwrap
from curation import scores
from curation.data import ShardRef
from curation.errors import IncompleteError, StoreError, TutelageError, UserError
from curation.images import DecodeLimits, Preprocess
from curation.ledger import Ledger
from curation.recipe import Compute
from curation.scorers import Batch, Score, Scorer
from curation.store import Store
from curation.units import STREAM_SCHEMA, UnitReader, failure_table, pixels, view_column

if TYPE_CHECKING:
    import torch

MOST_UNITS = 16  # a call: enough that batches cross units, few enough that little is repeated when an actor dies
CALLS_PER_ACTOR = 4  # that the units left make, where there are enough of them
RETRIES = 2  # of a call whose actor died; then its units wait for the next pass
DEATHS = 20  # of actors while they load and try their models; then the run ends, since something kills them all
COMMITTERS = 4  # threads an actor puts tables with, while the model goes on


@dataclass(frozen=True)
class Scoring:
    """What is to be scored and how; travels to every worker."""

    corpus: Store
    scored: Ledger
    index: scores.Column
    columns: Sequence[scores.Column]  # one a scorer, in the order of `scorers`
    scorers: Mapping[str, Scorer]
    limits: DecodeLimits
    compute: Compute
    caption: str = ""  # where captions stand, as the recipe's `input` names it

    @property
    def views(self) -> list[Preprocess]:
        """The distinct ways in which the scorers want images prepared."""
        wanted = (view for scorer in self.scorers.values() for view in scorer.views())
        return list({view_column(view): view for view in wanted}.values())

    @property
    def all_columns(self) -> list[scores.Column]:
        return [self.index, *self.columns]

    def reader(self) -> UnitReader:
        return UnitReader(self.corpus, self.limits, self.views, self.caption)


@dataclass
class Progress:
    """Counts of one call: samples and units committed, data puts, batches through the models, failed units."""

    samples: int = 0
    units: int = 0
    puts: int = 0
    batches: int = 0
    failures: tuple[tuple[str, str], ...] = ()


def score(job: Scoring, units: pa.Table) -> Iterator[Progress]:
    """Score `units` (shard_key, shard_size, shard_etag); yields what was committed, call by call."""
    if job.compute.max_actors:  # asks a cluster that scales for room; does nothing where there is no autoscaler
        request_resources(bundles=[_resources(job.compute)] * min(job.compute.max_actors, units.num_rows))
    actors = _Actors(job, units.num_rows)
    least = min(job.compute.min_actors, actors.room())
    start = 0
    try:
        while start < units.num_rows:
            actors.grow()
            if not actors.idle or actors.ready < least:
                yield from actors.next()
                continue
            call = units.slice(start, units_per_call(units.num_rows - start, len(actors.handles)))
            actors.submit(call)
            start += call.num_rows
        while actors.busy:
            yield from actors.next()
    except ray.exceptions.RayError as error:
        raise unwrap(error) from None
    finally:
        actors.kill()


def units_per_call(left: int, actors: int) -> int:
    """How many of the `left` units the next call takes: fewer towards the end, so that all end together.

    Guided self-scheduling (Polychronopoulos and Kuck 1987) with an upper limit: what is repeated when an actor dies.
    """
    return max(1, min(MOST_UNITS, left // (CALLS_PER_ACTOR * actors)))


class _Actors:
    """The pool of scorers: grows with the cluster, up to what the recipe allows and the units are worth."""

    def __init__(self, job: Scoring, units: int) -> None:
        self.job, self.units = job, units
        self.handles: list[Any] = []
        self.starting: dict[Any, Any] = {}  # what tells that an actor is ready -> that actor
        self.idle: deque[Any] = deque()
        self.busy: dict[Any, Any] = {}  # call -> its actor
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
        return len(self.handles) - len(self.starting)

    def grow(self) -> None:
        """Start actors where there is room."""
        while len(self.handles) < self.room():
            actor = _remote(self.job.compute).remote(self.job)
            self.handles.append(actor)
            self._await(actor)

    def submit(self, call: pa.Table) -> None:
        actor = self.idle.popleft()
        self.busy[actor.score.remote(call)] = actor

    def next(self) -> Iterator[Progress]:
        """Wait until a call ends, whose result is yielded, or an actor has loaded its models."""
        done, _ = ray.wait([*self.starting, *self.busy])
        for ref in done:
            if ref in self.starting:
                self._join(ref)
                continue
            self.idle.append(self.busy.pop(ref))
            try:
                yield ray.get(ref)
            except ray.exceptions.RayActorError:
                continue  # died again and again: what the call committed is found by the next pass

    def _await(self, actor: Any) -> None:
        self.starting[actor.ready.options(max_task_retries=0).remote()] = actor

    def _join(self, ref: Any) -> None:
        actor = self.starting.pop(ref)
        try:
            ray.get(ref)  # a model that can't be loaded ends the run here
        except ray.exceptions.RayActorError:
            self.deaths += 1  # Ray starts it again, but nothing that dies at every start
            if self.deaths > DEATHS:
                fix = "lower compute.batch_size, or compute.max_actors, if memory is what they lack"
                raise IncompleteError("every process dies while it loads and tries the models", fix=fix) from None
            self._await(actor)
        else:
            self.idle.append(actor)

    def kill(self) -> None:
        for actor in self.handles:
            ray.kill(actor)


def _remote(compute: Compute) -> Any:
    return ray.remote(ScorerActor).options(**_options(compute))


def _options(compute: Compute) -> dict[str, Any]:
    resources = {"num_cpus": compute.num_cpus, "num_gpus": compute.num_gpus or None}
    return {**resources, "max_restarts": -1, "max_task_retries": RETRIES}


def _resources(compute: Compute) -> dict[str, float]:
    spare = compute.decode_cpus if decodes_ahead(compute) else 0
    return {"CPU": compute.num_cpus + spare, **({"GPU": compute.num_gpus} if compute.num_gpus else {})}


def decodes_ahead(compute: Compute) -> int:
    """Decode tasks under way for each actor: as the recipe says, else 4 for a GPU and none for a CPU."""
    return compute.decode_tasks if compute.decode_tasks is not None else 4 if compute.num_gpus else 0


class ScorerActor:
    """Loads each model once; scores and commits the units it is given."""

    def __init__(self, job: Scoring) -> None:
        import torch

        torch.set_num_threads(max(1, int(job.compute.num_cpus)))
        self.gpu = job.compute.num_gpus > 0 and torch.cuda.is_available()
        self.device = torch.device("cuda" if self.gpu else "cpu")
        self.job, self.reader = job, job.reader()

    def ready(self) -> None:
        """Load the models and try them on one batch of nothing: what is wrong with them, a memory that is too small
        and what is slow the first time come now. Not in the constructor, whose errors Ray reports as a death."""
        nothing = failure_table(ShardRef("", 0, ""), "", self.reader.views)
        batch = make_batch(nothing, self.reader.views, self.job.compute.batch_size)
        for name in self.models:
            self._column(name, batch, np.ones(len(batch.captions), bool))

    @cached_property
    def models(self) -> Mapping[str, Score]:
        options, models = self.job.corpus.options, {}
        for name, scorer in self.job.scorers.items():
            with blamed(name):
                models[name] = scorer.load(self.device, options)
        return models

    def score(self, units: pa.Table) -> Progress:
        """Score and commit `units`; units that somebody has committed meanwhile are skipped."""
        job = self.job
        lacking = {shard: scores.missing(job.scored, shard, job.all_columns) for shard in shard_refs(units)}
        shards = [shard for shard, names in lacking.items() if names]
        progress, collector = Progress(), scores.Collector()
        with ThreadPoolExecutor(COMMITTERS) as committers:
            commits: list[Future[None]] = []
            for table in rebatch(self._tables(shards), job.compute.batch_size):
                progress.batches += bool(self.models)
                for unit in collector.add(self._score(table)):
                    if unit.failure is not None:
                        progress.failures += ((unit.shard.key, unit.failure),)
                        continue
                    progress.samples += unit.rows.num_rows
                    progress.units += 1
                    progress.puts += len(lacking[unit.shard])
                    commits.append(committers.submit(commit, job, unit, lacking[unit.shard]))
            for future in commits:
                future.result()
        return progress

    def _tables(self, shards: Sequence[ShardRef]) -> Iterator[pa.Table]:
        if ahead := decodes_ahead(self.job.compute):
            return decode_ahead(self.reader, shards, ahead, self.job.compute.decode_cpus)
        return decode_here(self.reader, shards)

    def _score(self, table: pa.Table) -> pa.Table:
        """Replace the pixels of a batch by its scores."""
        size = self.job.compute.batch_size if self.gpu else table.num_rows
        batch, valid = make_batch(table, self.reader.views, size), usable(table)
        out = table.select(STREAM_SCHEMA.names)
        for name in self.models:
            out = out.append_column(f"score:{name}", self._column(name, batch, valid))
        return out

    def _column(self, name: str, batch: Batch, valid: np.ndarray[Any, Any]) -> pa.Array:
        """What a scorer says of the batch's first rows, as many as `valid` tells of."""
        with blamed(name):
            rows = as_rows(name, self.models[name](batch))
            if len(rows) != len(batch.captions):
                fix = "one value a sample of the batch that it is given, which may be filled up to its size"
                raise UserError(f"scorer {name} gives {len(rows)} values for {len(batch.captions)} samples", fix=fix)
            return scores.value_array(rows[: len(valid)], valid, self.job.scorers[name].values())


@contextmanager
def blamed(name: str) -> Iterator[None]:
    """What goes wrong in a scorer's own code is one line that names it, and where it did."""
    try:
        yield
    except (UserError, StoreError) as error:
        if str(error).startswith(f"scorer {name} "):
            raise
        raise type(error)(f"scorer {name}: {error}", fix=error.fix) from None
    except TutelageError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        first = next(iter(str(error).splitlines()), "")
        text = f"scorer {name} fails: {type(error).__name__}: {first} ({frame.filename}:{frame.lineno})"
        raise UserError(text, fix="mend it, or leave it out of the recipe") from error


def as_rows(name: str, values: Any) -> pa.Array | np.ndarray[Any, Any]:
    """What a scorer gave. Raises `UserError` for what is neither an array nor a tensor."""
    import torch

    if not isinstance(values, pa.Array | np.ndarray | torch.Tensor):
        fix = "a numpy array, a tensor or an Arrow array"
        raise UserError(f"scorer {name} gives a {type(values).__name__}, not values of a batch", fix=fix)
    return as_numpy(values) if isinstance(values, torch.Tensor) else values


def as_numpy(values: torch.Tensor) -> np.ndarray[Any, Any]:
    """As they are, since a float32 holds no whole number above 2^24; of floats that numpy doesn't know, float32."""
    small = values.is_floating_point() and values.dtype.itemsize < 4
    return (values.float() if small else values).detach().cpu().numpy()


def guarded(tables: Iterator[pa.Table], reader: UnitReader, shard: ShardRef) -> Iterator[pa.Table]:
    """The tables of one unit; a store that fails ends it with a failure row, and the other units go on."""
    try:
        yield from tables
    except StoreError as error:
        yield failure_table(shard, str(error), reader.views)


def decode(reader: UnitReader, shard: ShardRef) -> Iterator[pa.Table]:
    """The tables of one unit, as a task."""
    yield from guarded(reader.read(shard), reader, shard)


def decode_here(reader: UnitReader, shards: Iterable[ShardRef]) -> Iterator[pa.Table]:
    """The tables of units one after the other; the first block of the next one comes while this one is worked on."""
    current: Iterator[pa.Table] = iter(())
    for shard in shards:
        following = guarded(reader.read(shard), reader, shard)
        yield from current
        current = following
    yield from current


def decode_ahead(reader: UnitReader, shards: Iterable[ShardRef], ahead: int, num_cpus: float) -> Iterator[pa.Table]:
    """The same, in order, by streaming Ray tasks on CPU workers, `ahead` of them under way."""
    task = ray.remote(num_cpus=num_cpus, num_returns="streaming")(decode)
    running: deque[Any] = deque()
    for shard in shards:
        running.append(task.remote(reader, shard))
        if len(running) > ahead:
            yield from (ray.get(ref) for ref in running.popleft())
    while running:
        yield from (ray.get(ref) for ref in running.popleft())


def rebatch(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """Tables of exactly `size` rows, across units; only the last is shorter."""
    pending: list[pa.Table] = []
    rows = 0
    for table in tables:
        pending.append(table)
        rows += table.num_rows
        while rows >= size:
            whole = pa.concat_tables(pending)
            yield whole.slice(0, size)
            pending, rows = [whole.slice(size)], rows - size
    if rows:
        yield pa.concat_tables(pending)


def commit(job: Scoring, unit: scores.ScoredUnit, wanted: Sequence[str]) -> None:
    """Commit the tables of a unit that are wanted; of those that others commit meanwhile, the first record wins."""
    if job.index.name in wanted:
        scores.commit_index(job.scored, unit.shard, job.index, unit.rows, unit.reason, unit.detail)
    for column in job.columns:
        if column.name in wanted:
            values = unit.rows.column(f"score:{column.name}")
            scores.commit_score(job.scored, unit.shard, column, unit.rows.column("uid"), values)


def make_batch(table: pa.Table, views: Sequence[Preprocess], size: int) -> Batch:
    """A table of at most `size` rows as a batch of exactly `size`: black images and empty captions fill it up."""
    captions = [caption or "" for caption in table.column("caption").to_pylist()]
    captions += [""] * (size - len(captions))
    columns = (pc.fill_null(table.column(name), 0).to_numpy() for name in ("width", "height"))
    sizes = np.zeros((size, 2), np.int32)
    sizes[: table.num_rows] = np.stack(list(columns), axis=1)
    padded = {}
    for view in views:
        images = pixels(table, view)
        if len(images) < size:
            blank = np.zeros((size - len(images), *images.shape[1:]), np.uint8)
            images = np.concatenate([images, blank])
        padded[view_column(view)] = images
    return Batch(captions, padded, sizes)


def usable(table: pa.Table) -> np.ndarray[Any, Any]:
    """[N] bool: a sample that is not quarantined, and no end row."""
    good = pc.and_(pc.is_null(table.column("reason")), pc.invert(table.column("end")))
    return good.to_numpy()  # type: ignore[no-any-return]


def shard_refs(units: pa.Table) -> Iterator[ShardRef]:
    columns = (units.column(name).to_pylist() for name in ("shard_key", "shard_size", "shard_etag"))
    for row in zip(*columns, strict=True):
        yield ShardRef(*row)
