"""Collect samples like a type of failure from a pool, and say which to weigh more.

The pool's samples are embedded with the failing model (the scorer `features`, committed and resumed as any score) and
ranked by the query of a validated type (`type_queries`). A failure judges a repair, so that neither a failure itself
nor a near-duplicate of one is ever collected, and the data in which the failures were found is no pool.
Cost: one image pass a sample, once for a model and a pool; then one pass over the features.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.core.errors import UserError
from curation.core.executor import Executor
from curation.curating.scored_units import scored_units
from curation.diagnosis.failures import DISTANCE
from curation.diagnosis.finding_types import MEMBER_SCHEMA, VERSION
from curation.diagnosis.first_samples import FirstSamples
from curation.diagnosis.subject import CONTENT, Subject, SubjectScores, matrix_of
from curation.diagnosis.type_queries import QUERY_SCHEMA
from curation.ledger.edit_lists import EDIT_SCHEMA
from curation.storage.urls import absolute_url

FIX = "make it with `curate diagnose types`"
Verb = Literal["weight", "add"]
Hashes = np.ndarray[Any, np.dtype[np.uint64]]
ROWS = 1024  # samples that are compared with all failures at once: 2 MB for each 2,048 failures


@dataclass(frozen=True)
class TypeQuery:
    """A validated type as a query, and what may never be collected: uids, content hashes and perceptual hashes."""

    name: str
    vector: np.ndarray[Any, np.dtype[np.float64]]
    bias: float
    expected: str
    found_in: str
    uids: frozenset[str]
    contents: frozenset[str]
    hashes: Hashes


@dataclass(frozen=True)
class Collected:
    """The best samples with their scores, in order; how many were ranked, and how many were refused, by reason."""

    uids: list[str]
    scores: list[float]
    shards: list[str]
    in_snapshot: bool
    ranked: int
    refused: Mapping[str, int]


def read_query(subject: Subject, folder: str, name: str, by: str) -> TypeQuery:
    """Read the query of a type from the folder of `curate diagnose types`.

    Raises `UserError` for another folder, another model, and a type that is not validated.
    """
    place = Path(folder)
    try:
        document = json.loads((place / "types.json").read_bytes())
        members = pq.read_table(place / "types.parquet").select(MEMBER_SCHEMA.names).cast(MEMBER_SCHEMA)
        queries = pq.read_table(place / "queries.parquet").select(QUERY_SCHEMA.names).cast(QUERY_SCHEMA)
        known = {one["type"]: one for one in document["types"]}
        version, sha256, found_in = document["version"], document["sha256"], document["failures"]["data"]
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{folder} has no types of failures", fix=FIX) from error
    if version != VERSION:
        raise UserError(f"{folder} has types of version {version}, not {VERSION}", fix=FIX)
    if sha256 != subject.weights.sha256:
        text = f"the types in {folder} are of the model {sha256[:16]}, not of {subject.weights.sha256[:16]}"
        raise UserError(text, fix="name the model that failed, or find the types of this one")
    if name not in known:
        merged = next((other for other in known if name in other.split("+")), None)
        text = f"{folder} has no type {name}" if merged is None else f"type {name} was merged: it is no type of its own"
        raise UserError(text, fix=f"name {merged}" if merged else f"name one of: {', '.join(known) or 'none'}")
    row = next((row for row in queries.to_pylist() if row["type"] == name and row["by"] == by), None)
    if row is None or not known[name]["validated"]:
        text = f"type {name} is not validated: it has no held-out failure that shows that tuning on it works"
        raise UserError(text, fix="find more failures, and their types again")
    hashes = np.array([value for value in members.column("phash").to_pylist() if value], np.int64).view(np.uint64)
    return TypeQuery(
        name, np.array(row["vector"]), row["bias"], known[name]["expected"], found_in,
        frozenset(members.column("uid").to_pylist()), frozenset(members.column(CONTENT).to_pylist()),
        np.unique(hashes),
    )  # fmt: skip


def collect(
    subject: Subject, query: TypeQuery, pool: str, scores: str, *, count: int, label: str | None = None,
    executor: Executor | None = None,
) -> Collected:  # fmt: skip
    """Score a pool where it is not scored yet, and return the `count` samples that are most like a type, ties by uid.

    label: only samples whose label, in this field of the json, is the expected answer of the type. Raises `UserError`
    for the data of the failures.
    """
    if absolute_url(pool) == query.found_in:
        text = f"the failures were found in {pool}: samples of it judge the repair, and are not collected"
        raise UserError(text, fix="name another pool")
    model = {"model": subject.model, "weights": subject.weights.url, "sha256": subject.weights.sha256}
    scorers: list[dict[str, Any]] = [{"phash": {}}, {"features": model}]
    columns = ["phash", "features", *([] if label is None else ["label"])]
    if label is not None:
        scorers.append({"label": {"field": label}})
    refused: Counter[str] = Counter()
    first, ranked = FirstSamples[str](count), 0
    with scored_units(absolute_url(pool), absolute_url(scores), scorers, executor) as units:
        data = SubjectScores(units, 0)
        root, in_snapshot = units.work.corpus.store().url.rstrip("/"), data.in_snapshot
        for table in data.tables(columns):
            sound = table.filter(pc.is_valid(table.column("features")))
            if label is not None:
                sound = sound.filter(pc.fill_null(pc.equal(sound.column("label"), query.expected), False))
            if not sound.num_rows:
                continue
            reasons = _refusals(query, sound)
            refused.update(reason for reason in reasons if reason)
            values = (matrix_of(sound.column("features")).double().numpy() @ query.vector + query.bias).astype("f4")
            keep = [place for place, reason in enumerate(reasons) if not reason]
            uids, keys = (sound.column(name).take(keep).to_pylist() for name in ("uid", "source_key"))
            first.add(values[keep], uids, keys.__getitem__)
            ranked += len(keep)
    if not ranked:
        raise UserError(f"{pool} has no sample to collect", fix="name another pool, or leave out --label")
    top = first.ranked()
    shards = [f"{root}/{one.item}" for one in top]
    return Collected([one.uid for one in top], [one.score for one in top], shards, in_snapshot, ranked, dict(refused))


def edit_list(found: Collected, subject: Subject, query: TypeQuery, verb: Verb, weight: float) -> pa.Table:
    """Return an edit list (`EDIT_SCHEMA`) that weighs the collected samples, or adds them from their marked shards.

    Raises `UserError` for `add` of samples of a snapshot, whose shards are no marked ones.
    """
    if verb == "add" and found.in_snapshot:
        raise UserError("samples of a snapshot can't be added by an edit", fix="name the marked shards as the pool")
    by = f"collect {query.name}@{subject.weights.sha256}"
    values = [f"{weight:g}" if verb == "weight" else shard for shard in found.shards]
    rows = [{"uid": uid, "verb": verb, "value": value, "by": by} for uid, value in zip(found.uids, values, strict=True)]
    return pa.Table.from_pylist(rows, schema=EDIT_SCHEMA)


def _refusals(query: TypeQuery, table: pa.Table) -> list[str]:
    """Return why each sample can't be collected; "" for one that can."""
    uids, contents = table.column("uid").to_pylist(), table.column(CONTENT).to_pylist()
    near = _near(table.column("phash").fill_null(0).to_numpy().view(np.uint64), query.hashes)
    return [
        "failure" if uid in query.uids else "copy_of_failure" if content in query.contents else "near_failure" if close
        else ""
        for uid, content, close in zip(uids, contents, near.tolist(), strict=True)
    ]  # fmt: skip


def _near(hashes: Hashes, others: Hashes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which hashes `[N]` are near to one of the others `[M]`; a blank picture (0) is near to nothing."""
    found = np.zeros(len(hashes), np.bool_)
    for start in range(0, len(hashes), ROWS):
        some = hashes[start : start + ROWS]
        bits = np.bitwise_count(some[:, None] ^ others[None, :])
        found[start : start + ROWS] = (some > 0) & (bits <= DISTANCE).any(1)
    return found
