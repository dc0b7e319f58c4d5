"""Recompute a snapshot from raw bytes: every count, hash, uid, byte and decision. Trusts nothing but the input shards.

One write unit at a time: its input shards are read, scanned and decoded again, its output shards hashed and compared
sample by sample with the input's bytes, its manifest rows with what was just computed, its score tables hashed.
Memory: one sample of each side and the unit's manifest part. Cost: about that of scoring without a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from curation import scores
from curation.data import ShardRef
from curation.decisions import KEPT, QUARANTINED, tally
from curation.documents import WriteRecord
from curation.errors import LedgerError, StoreError, TarError
from curation.images import DecodeLimits
from curation.ledger import Ledger
from curation.parquet import from_parquet
from curation.store import Store
from curation.tar import TarSample, read_samples
from curation.units import facts
from curation.writing import JSON_KEY, annotate

MAX_PROBLEMS = 20  # a unit: more lines than this help nobody


@dataclass(frozen=True)
class UnitVerifier:
    """Verifies write units; picklable, so that Ray tasks can each take one."""

    out: Ledger
    corpus: Store
    limits: DecodeLimits
    scored: Ledger
    columns: Sequence[scores.Column]
    caption: str = ""  # where captions stand, as the recipe's `input` names it

    def verify(self, unit: str) -> tuple[dict[str, Any], list[str]]:
        """(what the unit's bytes add up to, problems). No problem is raised: each is a line."""
        try:
            record = self.out.find(unit, WriteRecord)
        except LedgerError as error:
            return {"inputs": [], "samples": 0}, [str(error)]
        if record is None:
            return {"inputs": [], "samples": 0}, [f"unit {unit[:12]}: its commit record is gone"]
        problems: list[str] = []
        for line in self._problems(record):
            problems.append(line)
            if len(problems) == MAX_PROBLEMS:
                problems.append("(more problems in this unit are not shown)")
                break
        return record.to_json(), problems

    def _problems(self, record: WriteRecord) -> Iterator[str]:
        try:
            part = self.out.store.get(record["manifest"]["key"])
            if sha256(part).hexdigest() != record["manifest"]["sha256"]:
                yield f"{record['manifest']['key']}: sha256 differs from the commit record"
                return
            rows = from_parquet(part).to_pylist()
            output = self._output(record)
            yield from self._compare(record, rows, output)
            for key, _ in output:
                yield f"{key}: holds a sample that the manifest doesn't keep"
                break
        except (StoreError, TarError, LedgerError, KeyError, ValueError) as error:
            yield f"{type(error).__name__}: {error}"

    def _output(self, record: WriteRecord) -> Iterator[tuple[str, TarSample]]:
        """(shard key, sample) of everything the unit's shards hold; checks hash, size and count on the way."""
        for shard in record["shards"]:
            hashed, size, samples = sha256(), self.out.store.head(shard["key"]).size, 0
            for sample in read_samples(_hashing(self.out.store.blocks(shard["key"], size), hashed), size):
                samples += 1
                yield shard["key"], sample
            found = (hashed.hexdigest(), size, samples)
            if found != (shard["sha256"], shard["bytes"], shard["samples"]):
                raise LedgerError(f"{shard['key']}: sha256, bytes or samples differ from the commit record")

    def _compare(self, record: WriteRecord, rows: list[dict[str, Any]], output: Iterator[Any]) -> Iterator[str]:
        """Walk the input shards beside the manifest rows and the output samples."""
        position = 0
        for item in record["inputs"]:
            shard = ShardRef(item["key"], item["size"], item["etag"])
            yield from self._check_scores(shard)
            seen: list[tuple[str, str | None, int]] = []
            broken = None
            try:
                blocks = self.corpus.blocks(shard.key, shard.size, shard.etag)
                for n, sample in enumerate(read_samples(blocks, shard.size)):
                    row = rows[position + n] if position + n < len(rows) else {}
                    seen.append((row.get("decision", "absent"), row.get("reason"), 1))
                    yield from self._compare_sample(shard, n, sample, row, output)
            except TarError as error:
                broken = error.reason
            if broken != item["reason"]:
                yield f"{shard.key}: the archive is {broken or 'whole'}, the record says {item['reason'] or 'whole'}"
            if broken and any(decision != QUARANTINED for decision, _, _ in seen):
                yield f"{shard.key}: samples of a broken archive are not quarantined"
            counts = tally(seen)
            if any(counts[name] != item[name] for name in counts):
                yield f"{shard.key}: counts differ: {counts}"
            position += len(seen)
        if position != len(rows):
            yield f"the manifest part has {len(rows)} rows for {position} samples"

    def _check_scores(self, shard: ShardRef) -> Iterator[str]:
        """That every score table is there with the sha256 of its record, also those that no filter looks at."""
        for column in self.columns:
            try:
                scores.read(self.scored, shard, column, [])
            except (StoreError, LedgerError) as error:
                yield f"{column.name} of {shard.key}: {error}"

    def _compare_sample(
        self, shard: ShardRef, n: int, sample: TarSample, row: dict[str, Any], output: Iterator[Any]
    ) -> Iterator[str]:
        found = facts(shard, n, sample, self.limits, caption=self.caption)
        expected = {
            "uid": found["uid"], "key": found["key"], "source_key": shard.key, "source_etag": shard.etag,
            "source_offset": found["offset"], "source_length": found["length"], "width": found.get("width"),
            "height": found.get("height"), "content_hash": found.get("content_hash"),
        }  # fmt: skip
        wrong = [name for name, value in expected.items() if row.get(name) != value]
        if wrong:
            yield f"{shard.key} sample {n}: {', '.join(wrong)} in the manifest differ from the bytes"
        if found["reason"] and (row.get("decision"), row.get("reason")) != (QUARANTINED, found["reason"]):
            yield f"{shard.key} sample {n}: is {found['reason']}, the manifest says {row.get('reason')}"
        if row.get("decision") == KEPT:
            yield from _compare_output(shard, sample, row, next(output, None))


def _compare_output(
    shard: ShardRef, sample: TarSample, row: dict[str, Any], written: tuple[str, TarSample] | None
) -> Iterator[str]:
    """The output sample must hold the input's bytes, and its json uid and source besides."""
    where = f"{shard.key} sample {row['uid']}"
    if written is None:
        yield f"{where}: kept, but not in the output"
        return
    key, copy = written
    if (key, copy.start, copy.key) != (row["output_shard"], row["output_offset"], row["uid"]):
        yield f"{where}: is not where the manifest says"
    parts = {part.extension: part.data for part in sample.parts}
    source = (sample.start, sample.stop - sample.start)
    parts["json"] = annotate(parts.get("json", b"{}"), row["uid"], shard, *source)
    if parts != {part.extension: part.data for part in copy.parts}:
        yield f"{where}: output bytes differ from the input's (beside {JSON_KEY} in the json)"


def _hashing(blocks: Iterator[bytes], hashed: Any) -> Iterator[bytes]:
    for block in blocks:
        hashed.update(block)
        yield block
