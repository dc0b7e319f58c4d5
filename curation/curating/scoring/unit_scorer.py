"""The worker that scores: it loads each model once, takes units, commits their tables, and notes what it works on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from curation.core.executor import WorkerPlace
from curation.core.printable import printable
from curation.core.types import ShardRef
from curation.curating.scoring.batches import (
    decode_ahead,
    decode_here,
    decode_noted,
    make_batch,
    shard_refs,
    usable,
)
from curation.curating.scoring.black_box import BlackBox, Box, WorkNote
from curation.curating.scoring.efficiency import StageSeconds
from curation.curating.scoring.isolation import Isolated, RowSpans, blamed
from curation.curating.scoring.scoring_task import CallProgress, ScoringTask, check_scorers, commit
from curation.ledger import score_tables, unit_collector
from curation.ledger.attempts import DIED, REASONS, CallSettings
from curation.recipes.curation_recipe import Compute
from curation.scorers import Batch, imports_of
from curation.shards.unit_reader import STREAM_SCHEMA, failure_table, view_column
from curation.storage.parquet import rebatch

COMMITTERS = 4  # threads that put a worker's tables while its models go on
UNCOMMITTED = 2 * COMMITTERS  # units whose tables may wait for a slow store; then the models wait, too
LOADING = 10  # times compute.batch_timeout, for each model that is loaded and tried
LACKS = "lacks"  # a column of units: the names of the columns that have no record
REPORTED = 20  # samples set aside in one call that the driver prints a line about


class Ready(NamedTuple):
    """A worker that has loaded its models: its place, and the note that the process before it left there."""

    place: WorkerPlace
    last: WorkNote | None


def decodes_ahead(compute: Compute) -> int:
    """Decode tasks under way for each worker: as the recipe says, else 4 for a GPU and none for a CPU."""
    return compute.decode_tasks if compute.decode_tasks is not None else 4 if compute.num_gpus else 0


class UnitScorer:
    """Loads each model once; scores and commits the units it is given."""

    def __init__(self, job: ScoringTask, box: Box, place: WorkerPlace | None = None) -> None:
        self.gpu = False
        self.device: Any = None  # a torch.device where a scorer uses torch
        if any(imports_of(scorer) for scorer in job.scorers.values()):  # others do not pay for torch
            import torch

            torch.set_num_threads(max(1, int(job.compute.num_cpus)))
            self.gpu = job.compute.num_gpus > 0 and torch.cuda.is_available()
            self.device = torch.device("cuda" if self.gpu else "cpu")
            if self.gpu and job.compute.num_gpus < 1:  # too large a batch then fails here, not in a neighbour
                torch.cuda.set_per_process_memory_fraction(job.compute.num_gpus)
        self.job, self.reader, self.box = job, job.reader(), box
        self.ahead = decodes_ahead(job.compute) if place is not None and place.stream is not None else 0
        self.place = place
        self.overlaps = self.gpu  # the next batch is read and copied while a GPU works on this one
        needing = [scorer for scorer in job.scorers.values() if imports_of(scorer)]
        self.device_views = {view_column(view): view for scorer in needing for view in scorer.views()}.values()
        self.started = StageSeconds()  # until the first call: counted with it

    @cached_property
    def models(self) -> Mapping[str, Isolated]:
        options, models = self.job.corpus.options, {}
        for name, scorer in self.job.scorers.items():
            with blamed(name):
                score = scorer.load(self.device, options)
                seconds = self.job.compute.batch_timeout
                models[name] = Isolated(name, score, scorer.values(), self.box, seconds, self.gpu)
        return models

    def score(self, call: int, units: pa.Table, care: CallSettings) -> CallProgress:
        """Score and commit `units`; units that another process has committed meanwhile are skipped. `call`: its number.

        Their column `lacks` names the columns without a record, where the driver has asked just now; otherwise each
        record is asked for.
        """
        self.box.begin(call)
        job = self.job
        if LACKS in units.column_names:
            lacking = dict(zip(shard_refs(units), units.column(LACKS).to_pylist(), strict=True))
        else:
            lacking = {shard: score_tables.missing(job.scored, shard, job.all_columns) for shard in shard_refs(units)}
        shards = [shard for shard, names in lacking.items() if names]
        places = {shard.key: place for place, shard in enumerate(lacking)}
        progress, collector = CallProgress(seconds=self.started), unit_collector.Collector()
        self.started, spent = StageSeconds(), progress.seconds
        spent.ahead = self.ahead > 0
        if shards and care.until >= care.passed:
            care = self._search(shards, places, care, progress)
        with ThreadPoolExecutor(COMMITTERS) as committers:
            commits: deque[Future[None]] = deque()
            tables = rebatch(self._tables(shards, places, care), care.size)
            following = self._next(tables, care, spent)
            while following is not None:
                table, batch = following
                progress.batches += bool(self.models)
                with spent.spent("models"):
                    finish = self._begin(table, batch, places, care, progress)
                if self.overlaps:
                    following = self._next(tables, care, spent)
                with spent.spent("models"):
                    scored = finish()
                with spent.spent("tables"):
                    for unit in collector.add(scored):
                        if unit.failure is not None:
                            progress.failures += ((unit.shard.key, unit.failure),)
                            continue
                        progress.samples += unit.rows.num_rows
                        progress.units += 1
                        progress.puts += len(lacking[unit.shard])
                        commits.append(committers.submit(commit, job, unit, lacking[unit.shard]))
                        if len(commits) > UNCOMMITTED:
                            commits.popleft().result()
                    self._note_passed(table, places)
                if not self.overlaps:
                    following = self._next(tables, care, spent)
            with spent.spent("tables"):
                for future in commits:
                    future.result()
        return progress

    def _next(
        self, tables: Iterator[pa.Table], care: CallSettings, spent: StageSeconds
    ) -> tuple[pa.Table, Batch] | None:
        """The next rows as a table and a batch, whose pixels are on their way to a GPU; None at the end."""
        with spent.spent("decode"):
            table = next(tables, None)
        if table is None:
            return None
        with spent.spent("models"):
            return table, self._batch(table, care)

    def _batch(self, table: pa.Table, care: CallSettings) -> Batch:
        size = care.size if self.gpu else table.num_rows
        batch = make_batch(table, self.reader.views, size, self.job.reads)
        if self.overlaps and all(model.size >= len(batch.captions) for model in self.models.values()):
            try:
                for view in self.device_views:
                    batch.tensor(view, self.device)
            except RuntimeError:
                # Too little memory, or the failure of a kernel of the batch before, which is noted where that batch is
                # waited for. The scorers copy the pixels themselves.
                return make_batch(table, self.reader.views, size, self.job.reads)
        return batch

    def _search(
        self, shards: Sequence[ShardRef], places: Mapping[str, int], care: CallSettings, progress: CallProgress
    ) -> CallSettings:  # fmt: skip
        """Try the rows of the one unit of a call that are not known to be good, up to `care.until`. Lets values go.

        A process that dies of one of them has repeated nothing of the rows before. Returns how the pass over the whole
        unit works: nothing is tried alone, and what raised here is set aside.
        """
        index = self.job.index.fingerprint
        skipped = {**dict.fromkeys(range(care.passed), DIED), **care.poison.get(index, {})}
        poison = {column.fingerprint: dict(care.poison.get(column.fingerprint, {})) for column in self.job.columns}
        for table in rebatch(self._tables(shards, places, replace(care, poison={index: skipped})), care.size):
            good = usable(table)
            if good.any():
                progress.batches += bool(self.models)
                alone = replace(care, poison=poison)
                tried = self._begin(table, self._batch(table, care), places, alone, progress)()
                for column in self.job.columns:
                    reasons = tried.column(f"aside:{column.name}").to_pylist()
                    rows = zip(table.column("row").to_pylist(), reasons, good, strict=True)
                    poison[column.fingerprint] |= {row: why for row, why, usable in rows if usable and why}
            self._note_passed(table, places)
            if table.column("row")[-1].as_py() >= care.until:
                break
        return replace(care, alone={}, poison={**poison, index: care.poison.get(index, {})})

    def _note_passed(self, table: pa.Table, places: Mapping[str, int]) -> None:
        """Note how far each unit of a batch has come: to the last of its rows. 30 us for 256 rows."""
        reached = dict(zip(table.column("shard_key").to_pylist(), table.column("row").to_pylist(), strict=True))
        for key, row in reached.items():
            self.box.passed(places[key], row + 1)

    def _tables(self, shards: Sequence[ShardRef], places: Mapping[str, int], care: CallSettings) -> Iterator[pa.Table]:
        """The rows of units, with a note of each sample that is decoded here, and an end to what takes too long."""
        box, compute = self.box, self.job.compute
        reader = replace(
            self.reader,
            poison=care.poison.get(self.job.index.fingerprint, {}),
            watch=lambda shard, row: box.decoding(places[shard.key], row),
        )
        if self.ahead:
            assert self.place is not None
            return decode_ahead(self.place, reader, shards, self.ahead, compute.decode_cpus, box, compute.batch_timeout)
        return decode_noted(decode_here(reader, shards), box, compute.batch_timeout)

    def _begin(
        self, table: pa.Table, batch: Batch, places: Mapping[str, int], care: CallSettings, progress: CallProgress
    ) -> Callable[[], pa.Table]:
        """Begin to score a batch, and return a function that waits for the table with scores instead of pixels."""
        valid, keys = usable(table), table.column("shard_key").to_pylist()
        row = table.column("row").to_numpy()
        spans = RowSpans(np.array([places[key] for key in keys]), row)
        at = {int(number): place for place, number in enumerate(row) if valid[place]}
        begun = []
        for column in self.job.columns:
            model, alone = self.models[column.name], care.alone.get(column.fingerprint, ())
            known = {at[n]: why for n, why in care.poison.get(column.fingerprint, {}).items() if n in at}
            begun.append(model.begin(batch, valid, spans, known, [at[n] for n in alone if n in at]))

        def finish() -> pa.Table:
            out = table.select(STREAM_SCHEMA.names)
            decoder = {n: r for n, r in enumerate(table.column("reason").to_pylist()) if r in REASONS}
            for column, wait in zip(self.job.columns, begun, strict=True):
                values, aside = wait()
                reasons: list[str | None] = [None] * table.num_rows
                for place, reason in {**aside, **decoder}.items():
                    reasons[place] = reason
                for place, detail in self.models[column.name].details.items():
                    if len(progress.aside) < REPORTED:
                        line = f"{keys[place]}: sample {row[place]} is set aside: scorer {column.name} raises {detail}"
                        progress.aside += (printable(line),)
                out = out.append_column(f"score:{column.name}", values)
                out = out.append_column(f"aside:{column.name}", pa.array(reasons, pa.string()))
            return out

        return finish


class ScoringWorker(UnitScorer):
    """A `UnitScorer` in a process of its own, which may die: it notes what it has in work."""

    def __init__(self, job: ScoringTask, place: WorkerPlace) -> None:
        super().__init__(job, BlackBox(place.path), place)

    def ready(self, size: int) -> Ready:
        """Load the models and try them on one empty batch of `size` samples.

        What is wrong with them, too little memory, and what is slow the first time show here.
        """
        nothing = failure_table(ShardRef("", 0, ""), "", self.reader.views, self.reader.fields)
        batch = make_batch(nothing, self.reader.views, size, self.job.reads)
        if self.job.unchecked:
            check_scorers(self.job.scorers, self.job.unchecked, self.job.corpus.options)
        seconds = LOADING * self.job.compute.batch_timeout * max(1, len(self.job.scorers))
        with self.started.spent("starting"), self.box.watched(seconds):
            models = self.models.values()
            if self.job.compute.compile:
                from curation.models.shared_encoder import compile_encoders

                compile_encoders(size)
            for model in models:
                model.trial(batch)
        assert self.place is not None
        return Ready(self.place, self.box.last)
