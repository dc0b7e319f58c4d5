"""Streaming scoring on Ray Data: units -> fetch and decode -> batches -> scorer actors -> one table a unit.

Ray Data's streaming executor schedules, retries, scales the pool and holds back stages that run ahead. Batches cross
units on the way to the scorers; `Collector` gives the rows back to their units, and a unit is committed when it is
whole. An actor or a worker that dies costs its work, never a row: what was not committed is found missing and done
again in the next pass.

A sample's score doesn't depend on its neighbours, so scores are equal however the work was divided: on a GPU, where
the shape decides which kernel runs, every batch is padded to the same one; on CPUs the bits are equal anyway (tested).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import ActorPoolStrategy, DataContext

from actors.cluster import cpus, gpus, unwrap
from curation import scores
from curation.data import ShardRef
from curation.errors import StoreError
from curation.images import DecodeLimits, Preprocess
from curation.ledger import Ledger
from curation.recipe import Compute
from curation.scorers import Batch, Scorer
from curation.store import Store
from curation.units import STREAM_SCHEMA, UnitReader, failure_table, view_column

SHARD = ("shard_key", "shard_size", "shard_etag")
MAX_BLOCKS = 2000  # of the driver's list of units: beyond that a block holds several units
BLOCK_BYTES = 32 << 20  # of pixels between stages; bounds memory a task
MODEL_BATCH = "model_batch"  # true on the first row of each batch that went through the models
SUMMARY_SCHEMA = pa.schema(
    [
        ("shard_key", pa.string()),  # null: this row only counts batches
        ("samples", pa.int64()),
        ("tables", pa.int64()),
        ("batches", pa.int64()),
        ("failure", pa.string()),
    ]
)


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

    @property
    def views(self) -> list[Preprocess]:
        """The distinct ways in which the scorers want images prepared."""
        wanted = (scorer.view() for scorer in self.scorers.values())
        return list({view_column(view): view for view in wanted if view is not None}.values())

    @property
    def all_columns(self) -> list[scores.Column]:
        return [self.index, *self.columns]


@dataclass
class Progress:
    """Counts of one pass: samples and units committed, data puts, batches through the models, failed units."""

    samples: int = 0
    units: int = 0
    puts: int = 0
    batches: int = 0
    failures: tuple[tuple[str, str], ...] = ()


def score(job: Scoring, units: pa.Table) -> Iterator[Progress]:
    """Score `units` (shard_key, shard_size, shard_etag); yields what was committed, as it is committed."""
    _quiet()
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = BLOCK_BYTES
    rows = -(-units.num_rows // MAX_BLOCKS)
    blocks = [units.slice(i, rows) for i in range(0, units.num_rows, rows)]
    pipeline = ray.data.from_arrow(blocks).map_batches(
        _Decode(job), batch_size=1, batch_format="pyarrow", num_cpus=job.compute.decode_cpus
    )
    if job.scorers:
        pipeline = pipeline.map_batches(
            ScoreBatches,
            fn_constructor_args=(job,),
            batch_size=job.compute.batch_size,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=_pool(job.compute),
            num_cpus=job.compute.num_cpus,
            num_gpus=job.compute.num_gpus or None,
        )
    pipeline = pipeline.map_batches(
        CommitUnits,
        fn_constructor_args=(job,),
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=1),
        num_cpus=0,
    )
    try:
        for batch in pipeline.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield _summary(batch)
    except ray.exceptions.RayError as error:
        raise unwrap(error) from None


def _pool(compute: Compute) -> ActorPoolStrategy:
    """As many scorers as the cluster has room for, unless the recipe says otherwise; room is left for decoding."""
    if compute.num_gpus:
        room = int(gpus() / compute.num_gpus)
    else:
        room = int(cpus() / (compute.num_cpus + compute.decode_cpus))
    most = max(compute.min_actors, compute.max_actors or max(1, room))
    return ActorPoolStrategy(min_size=compute.min_actors, max_size=most, initial_size=most)


def _summary(batch: pa.Table) -> Progress:
    rows = batch.to_pylist()
    failures = tuple((row["shard_key"], row["failure"]) for row in rows if row["failure"] is not None)
    return Progress(
        samples=sum(row["samples"] for row in rows),
        units=sum(row["shard_key"] is not None for row in rows) - len(failures),
        puts=sum(row["tables"] for row in rows),
        batches=sum(row["batches"] for row in rows),
        failures=failures,
    )


def _quiet() -> None:
    """Ray Data's account of its executions goes to its log file, not over the user's progress line."""
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.ERROR)


class _Decode:
    """Fetch, scan and decode one unit: tables of a few hundred samples with their pixels, then its end row."""

    def __init__(self, job: Scoring) -> None:
        self.reader = UnitReader(job.corpus, job.limits, job.views)

    def __call__(self, units: pa.Table) -> Iterator[pa.Table]:
        for shard in shard_refs(units):
            try:
                yield from self.reader.read(shard)
            except StoreError as error:  # this unit isn't committed, the others go on
                yield failure_table(shard, str(error), self.reader.views)


class ScoreBatches:
    """A scorer actor: loads each model once, then turns pixels and captions into score columns, batch by batch."""

    def __init__(self, job: Scoring) -> None:
        import torch

        torch.set_num_threads(max(1, int(job.compute.num_cpus)))
        self.gpu = job.compute.num_gpus > 0 and torch.cuda.is_available()
        self.device = torch.device("cuda" if self.gpu else "cpu")
        self.job = job
        self.score = {name: scorer.load(self.device, job.corpus.options) for name, scorer in job.scorers.items()}

    def __call__(self, table: pa.Table) -> pa.Table:
        batch = make_batch(table, self.job.views, self.job.compute.batch_size if self.gpu else table.num_rows)
        valid = usable(table)
        out = table.select(STREAM_SCHEMA.names)
        for name, score in self.score.items():
            values = score(batch)[: table.num_rows].float().cpu().numpy()
            out = out.append_column(f"score:{name}", scores.value_array(values, valid))
        return out.append_column(MODEL_BATCH, pa.array(np.arange(table.num_rows) == 0))


class CommitUnits:
    """Gathers rows and commits the tables of every unit that has become whole."""

    def __init__(self, job: Scoring) -> None:
        self.job = job
        self.collector = scores.Collector()

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = [self._commit(unit) for unit in self.collector.add(table)]
        if MODEL_BATCH in table.column_names:
            rows.append(_row(None, batches=pc.sum(table.column(MODEL_BATCH)).as_py()))
        return pa.Table.from_pylist(rows, SUMMARY_SCHEMA)

    def _commit(self, unit: scores.ScoredUnit) -> dict[str, Any]:
        if unit.failure is not None:
            return _row(unit.shard.key, failure=unit.failure)
        job = self.job
        wanted = scores.missing(job.scored, unit.shard, job.all_columns)
        if job.index.name in wanted:
            scores.commit_index(job.scored, unit.shard, job.index, unit.rows, unit.reason)
        for column in job.columns:
            if column.name in wanted:
                values = unit.rows.column(f"score:{column.name}")
                scores.commit_score(job.scored, unit.shard, column, unit.rows.column("uid"), values)
        return _row(unit.shard.key, samples=unit.rows.num_rows, tables=len(wanted))


def _row(
    key: str | None, *, samples: int = 0, tables: int = 0, batches: int = 0, failure: str | None = None
) -> dict[str, Any]:
    return {"shard_key": key, "samples": samples, "tables": tables, "batches": batches, "failure": failure}


def make_batch(table: pa.Table, views: Sequence[Preprocess], size: int) -> Batch:
    """A table of at most `size` rows as a batch of exactly `size`: black images and empty captions fill it up."""
    from curation.units import pixels

    captions = [caption or "" for caption in table.column("caption").to_pylist()]
    captions += [""] * (size - len(captions))
    padded = {}
    for view in views:
        images = pixels(table, view)
        if len(images) < size:
            blank = np.zeros((size - len(images), *images.shape[1:]), np.uint8)
            images = np.concatenate([images, blank])
        padded[view_column(view)] = images
    return Batch(captions, padded)


def usable(table: pa.Table) -> np.ndarray[Any, Any]:
    """[N] bool: a sample that is not quarantined, and no end row."""
    good = pc.and_(pc.is_null(table.column("reason")), pc.invert(table.column("end")))
    return good.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def shard_refs(units: pa.Table) -> Iterator[ShardRef]:
    for row in zip(*(units.column(name).to_pylist() for name in SHARD), strict=True):
        yield ShardRef(*row)
