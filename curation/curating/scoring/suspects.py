"""The driver's side of isolation: the units whose scoring killed a process, and the calls that try them again.

A call whose process dies leaves a note of the rows that were in work. The driver records these rows in the store
(`curation.ledger.attempts`) and gives their unit a call of its own, which tries the rows one by one before it tries
their batch. The first death thus names a batch, the second one a sample, and the third, with that sample alone in work,
sets the sample aside: at most three deaths for a sample, and two for each further sample of the same batch. As many
units are tried at once as there are actors. The decoder's samples are noted one by one, so they take two deaths. Rows
that a process found to be good are not tried again after its death.

A death with many samples in work may come from too little memory. Each such death halves the batch of the unit's next
call before any sample is set aside. If several units turn out to hold no sample at fault, all calls get the smaller
batch.

`isolation.at_fault` decides when the scorer or the decoder itself is at fault; the run then ends.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from typing import TYPE_CHECKING

import pyarrow as pa

from curation.core.errors import IncompleteError
from curation.core.printable import printable
from curation.core.types import ShardRef
from curation.curating.scoring.batches import shard_refs
from curation.curating.scoring.black_box import WorkNote
from curation.curating.scoring.isolation import at_fault
from curation.ledger import attempts
from curation.ledger.attempts import CallSettings, Suspicion

if TYPE_CHECKING:
    from curation.curating.scoring.scoring_task import CallProgress, ScoringTask

UNEXPLAINED = 5  # deaths with no sample in work; after these the unit is given up
MOST_DEATHS = 1000  # deaths for one unit: three for each of 333 samples at fault
INNOCENT = 2  # units that killed a process and hold no sample at fault; after these the batch is taken to be too large


class Suspects:
    """The units under suspicion, and the calls that try them. `size`: samples in a batch of all other calls."""

    def __init__(self, job: ScoringTask, units: pa.Table) -> None:
        self.job, self.size = job, job.compute.batch_size
        self.waiting: deque[ShardRef] = deque()
        self._of: dict[ShardRef, Suspicion] = {}
        self._finished: set[ShardRef] = set()  # a part of `_of`
        self._unexplained: Counter[ShardRef] = Counter()
        self._units = units
        self._samples = self._aside = self._innocent = 0
        self._by_fingerprint = {column.fingerprint: column for column in job.all_columns}
        self._take_over(units)

    def _take_over(self, units: pa.Table) -> None:
        """Load the attempts on these units that earlier drivers recorded."""
        if not (found := list(attempts.recorded(self.job.scored))):
            return
        shards = set(shard_refs(units))
        for attempt in found:
            if attempt.shard in shards and attempt.fingerprint in self._by_fingerprint:
                self._suspect(attempt.shard).note(attempt)

    def known(self) -> set[ShardRef]:
        """Return the units for which earlier drivers recorded attempts."""
        return set(self._of)

    def next(self) -> tuple[pa.Table, CallSettings]:
        shard = self.waiting.popleft()
        return _table(self._units, shard), self._of[shard].care(self.size)

    def done(self, units: pa.Table, care: CallSettings, progress: CallProgress) -> None:
        """Note that a call has ended without a death."""
        self._samples += progress.samples
        for line in progress.aside:
            _say(line)
        for shard in shard_refs(units):
            found = self._of.get(shard)
            if found is not None:
                self._finished.add(shard)
            if found is not None and found.wide and not found.poison and not found.alone and care.size < self.size:
                self._innocent += 1
                if self._innocent >= INNOCENT:
                    self.less_memory(True)

    def less_memory(self, halve: bool) -> None:
        """Halve the batch of all later calls if `halve`: a process died of too little memory."""
        if halve and self.size > 1:
            self.size, self._innocent = self.size // 2, 0
            _say(f"memory is short: batches have {self.size:,} samples from now on")

    def died(
        self, call: int, units: pa.Table, care: CallSettings, last: WorkNote | None, memory: bool
    ) -> tuple[pa.Table, list[tuple[str, str]]]:
        """Note that a call's process died. Return the units to repeat unchanged, and those given up as (key, why)."""
        shards = list(shard_refs(units))
        words = last if last is not None and last.call == call else None
        spans = words.spans if words is not None else ()
        short = memory and care.size > 1
        for place, _, _ in () if short else spans:
            self._suspect(shards[place])
        if words is not None:
            self._learn(shards, words)
        if short:
            return self._short(units, shards, care), []
        if words is None or not spans:
            return self._without_a_word(units, shards)
        suspected = self._note(shards, words)
        for shard in shards:  # suspected earlier, and unfinished when this call died
            if shard in self._of and shard not in self.waiting:
                self.waiting.append(shard)
                suspected.add(shard)
        return units.filter(pa.array([shard not in suspected for shard in shards], pa.bool_())), []

    def _note(self, shards: list[ShardRef], last: WorkNote) -> set[ShardRef]:
        """Record the rows that were in work, set aside those that are convicted, and return their units."""
        column = self.job.index
        if last.column is not None:
            column = next(column for column in self.job.columns if column.name == last.column)
        how = attempts.HUNG if last.hung else attempts.DIED
        alone = len(last.spans) == 1 and last.spans[0][1] == last.spans[0][2]
        for place, first, end in last.spans:
            found = self._of[shards[place]]
            passed = last.found.passed.get(place, 0)
            cleared = [row for name, unit, row in last.found.cleared if (name, unit) == (last.column, place)]
            attempt = attempts.attempt_of(
                "attempt", shards[place], column, (first, end), how, last.fault, alone, passed, cleared
            )
            found.note(attempts.record(self.job.scored, attempt, found.deaths[column.fingerprint]))
            if column is self.job.index:
                found.good = max(found.good, first)
            self._convict(shards[place], how, last.fault)
        return {shards[place] for place, _, _ in last.spans}

    def _short(self, units: pa.Table, shards: list[ShardRef], care: CallSettings) -> pa.Table:
        """Handle a death of too little memory: suspected units wait for a call of their own; return the others."""
        if care.size == self.size:
            self.less_memory(True)
        for shard in shards:
            if shard in self._of:
                self._of[shard].short += care.size < self.size
                if shard not in self.waiting:
                    self.waiting.append(shard)
        return units.filter(pa.array([shard not in self._of for shard in shards], pa.bool_()))

    def _suspect(self, shard: ShardRef) -> Suspicion:
        if shard not in self._of:
            self._of[shard] = Suspicion()
        if shard not in self.waiting:
            self.waiting.append(shard)
        found = self._of[shard]
        if found.deaths.total() >= MOST_DEATHS:
            fix = "leave the shard or the scorer out, or lower compute.batch_size"
            raise IncompleteError(f"{found.deaths.total():,} processes died of {shard.key}", fix=fix)
        return found

    def _convict(self, shard: ShardRef, how: attempts.How, detail: str) -> None:
        """Set aside the samples of a unit that killed enough processes while they were alone in work."""
        found = self._of[shard]
        for fingerprint, row in found.convicted():
            column = self._by_fingerprint[fingerprint]
            poison = attempts.attempt_of("poison", shard, column, (row, row), how, detail)
            found.note(attempts.record(self.job.scored, poison))
            self._aside += 1
            who = "the decoder" if column is self.job.index else f"scorer {column.name}"
            what = "takes longer than compute.batch_timeout for it" if how == attempts.HUNG else "dies of it"
            _say(f"{shard.key}: sample {row} is set aside: {who} {what}{f' ({detail})' if detail else ''}")
            self._check(who)

    def _check(self, who: str) -> None:
        """Raise `IncompleteError` if the scorer or the decoder is at fault rather than the samples."""
        counts = [found.counts() for unit, found in self._of.items() if unit not in self._finished]
        good = self._samples + sum(good for good, _ in counts)
        tried = good + sum(poison for _, poison in counts)
        if at_fault(self._aside, good, tried):
            raise IncompleteError(
                f"{who} ends its process for {self._aside} samples of the first {tried:,}",
                fix="ask its maintainer to fix it, or remove it from the recipe; attempts/ of the scores names them",
            )

    def _learn(self, shards: list[ShardRef], last: WorkNote) -> None:
        """Keep what a process found out about suspected units before it died: rows that raised stay set aside."""
        by_name = {column.name: column for column in self.job.columns}
        for place, shard in enumerate(shards):
            if shard in self._of:
                rows = (row for row in last.found.cleared if row[1] == place)
                cleared = ((by_name[name].fingerprint, row) for name, _, row in rows)
                self._of[shard].learn(last.found.passed.get(place, 0), cleared)
        for (name, place, row), (how, detail) in last.found.aside.items():
            if (found := self._of.get(shards[place])) is None:
                continue  # the next call for its unit finds it again
            poison = attempts.attempt_of("poison", shards[place], by_name[name], (row, row), how, detail)
            found.note(attempts.record(self.job.scored, poison))
            _say(f"{shards[place].key}: sample {row} is set aside: scorer {name} raises {detail}")

    def _without_a_word(
        self, units: pa.Table, shards: list[ShardRef]
    ) -> tuple[pa.Table, list[tuple[str, str]]]:  # fmt: skip
        """Handle a death with no sample in work: repeat all units, at most `UNEXPLAINED` times."""
        given_up = []
        for shard in shards:
            self._unexplained[shard] += 1
            if self._unexplained[shard] > UNEXPLAINED:
                why = f"its process died {self._unexplained[shard]} times with no sample in work"
                given_up.append((shard.key, why))
            elif shard in self._of and shard not in self.waiting:
                self.waiting.append(shard)
        gone = {key for key, _ in given_up}
        again = [shard not in self._of and shard.key not in gone for shard in shards]
        return units.filter(pa.array(again, pa.bool_())), given_up


def _table(units: pa.Table, shard: ShardRef) -> pa.Table:
    columns = ("shard_key", "shard_size", "shard_etag")
    return pa.table({n: pa.array([v], units.schema.field(n).type) for n, v in zip(columns, shard, strict=True)})


def _say(line: str) -> None:
    print(f"curate: {printable(line)}", file=sys.stderr, flush=True)
