"""Failures: samples that a model got wrong, with the answers that were expected, in three parts that never mix.

A file of failures is Parquet: `uid`, `expected`, `guess`, `part` (query, validation or held_out), where the sample is,
its content hash, and in its metadata the model, the data and the field of the label. The query is what is traced; the
other parts judge a repair. The part follows from a hash of the smallest uid among near-duplicates (a Hamming distance
of perceptual hashes of at most 4), so that a copy of a query sample never judges. Repeated, the same failures are in
the same parts; others do not move them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.core.errors import NotFoundError, UserError
from curation.curating.ranged_pictures import SOURCE
from curation.filters.hamming import are_near, pairs_within
from curation.filters.hash_sets import InMemory
from curation.storage.store import StoreOptions, open_object

VERSION = 1
DISTANCE = 4  # bits of a 64-bit perceptual hash by which near-duplicates differ at most
SHARES = {"query": 0.5, "validation": 0.25, "held_out": 0.25}
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("uid", "expected", "guess", "part", "content_hash", *SOURCE[:2])),
        *((name, pa.int64()) for name in SOURCE[2:]),
    ]
)
_KEY = b"tutelage_failures"
FIX = "make it with `curate diagnose failures`"


@dataclass(frozen=True)
class Failures:
    """The failures of one model on one dataset. table: `SCHEMA`, sorted by uid. about: model, data, label."""

    table: pa.Table
    about: Mapping[str, Any]

    def part(self, name: str) -> pa.Table:
        """Return the rows of a part."""
        return self.table.filter(pc.equal(self.table.column("part"), name))

    @property
    def sha256(self) -> str:
        """The sha256 of the file."""
        return sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the file: a pure function of the failures."""
        about = json.dumps({"version": VERSION, **self.about}, sort_keys=True)
        sink = pa.BufferOutputStream()
        pq.write_table(self.table.replace_schema_metadata({_KEY: about.encode()}), sink, compression="zstd")
        return bytes(sink.getvalue())


def split(uids: Sequence[str], hashes: Sequence[int | None], seed: int = 0) -> list[str]:
    """Return the part of each failure. hashes: perceptual hashes of the pictures, 64 bits; None for none."""
    first = {uid: uid for uid in uids}

    def root(uid: str) -> str:
        while first[uid] != uid:
            first[uid] = first[first[uid]]
            uid = first[uid]
        return uid

    for one, other in _near(hashes):
        a, b = sorted((root(uids[one]), root(uids[other])))
        first[b] = a
    return [part_of(root(uid), seed) for uid in uids]


def part_of(name: str, seed: int) -> str:
    """Return the part of a sample, or of a group of samples, by a hash of its name."""
    place = int.from_bytes(sha256(f"failures {seed} {name}".encode()).digest()[:8]) / 2**64
    for part, share in SHARES.items():
        if (place := place - share) < 0:
            return part
    return "held_out"


def _near(hashes: Sequence[int | None]) -> list[tuple[int, int]]:
    """Return pairs of rows that link all near-duplicates. A blank picture (hash 0) is near to nothing."""
    rows: dict[int, list[int]] = {}
    for row, value in enumerate(hashes):
        if value:
            rows.setdefault(value % 2**64, []).append(row)
    same = [(found[0], row) for found in rows.values() for row in found[1:]]
    distinct = np.array(sorted(rows), np.uint64)
    near = [
        (rows[int(a)][0], rows[int(b)][0])
        for one, other in pairs_within(InMemory(distinct), DISTANCE)
        for a, b, wanted in zip(one, other, are_near(one, other, DISTANCE), strict=True)
        if wanted
    ]
    return same + near


def read_failures(url: str, options: StoreOptions | None = None) -> Failures:
    """Read a file of failures. Raises `UserError` for another kind of file."""
    store, key = open_object(url, options)
    try:
        table = pq.read_table(pa.BufferReader(store.get(key)))
        about = json.loads((table.schema.metadata or {})[_KEY])
        found = table.select(SCHEMA.names).cast(SCHEMA)
    except NotFoundError:
        raise
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{url} is no file of failures", fix=FIX) from error
    if about.get("version") != VERSION:
        raise UserError(f"{url} is a file of failures of version {about.get('version')}", fix=FIX)
    return Failures(found.replace_schema_metadata(None), about)
