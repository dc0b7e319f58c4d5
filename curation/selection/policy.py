"""A data policy: the recorded choices of a run, with which another learner trains on the same sub-batches.

    <folder>/steps-<first>.parquet    step, lag, models (their hashes), candidates, scores, chosen: a row a step
    <folder>/shards.parquet           name, samples, uids (the sha256 of its file): a row for each shard
    <folder>/uids/<sha256>.parquet    uid: a row for each sample of the shard, written once

Candidates are rows of the pool (`curation.selection.pool`: shard and index in it), with the shards numbered as in
`shards.parquet`; scores are float32, chosen positions among the candidates (4 bytes): about 8 bytes a candidate and 2 a
chosen sample after zstd, and 16 once for every sample of the shards. `policy_writer` records it, and `policy_replay`
trains on it. Source: 2312.05328, section 5 (data policies trained once and reused, "active learning as a service").
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from curation.core.digest import digest
from curation.core.errors import NotFoundError, UserError
from curation.selection.pool_blocks import split
from curation.storage import tables
from curation.storage.parquet import read_parquet
from curation.storage.store import Store

SHARDS_HELD = 64  # shards whose uids are in memory while a policy is read
RESTORE = "restore it, or repeat that run"  # the fix for a damaged or missing file

SCHEMA = pa.schema(
    [
        ("step", pa.int32()),
        ("lag", pa.int32()),  # updates by which the choosing models were older than the learner
        ("models", pa.list_(pa.string())),  # "role fingerprint" of the choosing models: sha256 of their weights
        ("candidates", pa.list_(pa.int64())),
        ("scores", pa.list_(pa.float32())),  # null where nothing was scored
        ("chosen", pa.list_(pa.int32())),
    ]
)


class PolicyStep(NamedTuple):
    """One recorded step: candidates as rows, int64 `[B]`, their scores, float32 `[B]`, and the chosen positions."""

    number: int
    candidates: np.ndarray[Any, Any]
    scores: np.ndarray[Any, Any] | None
    chosen: np.ndarray[Any, Any]
    models: Mapping[str, str]
    lag: int


class PolicyShard(NamedTuple):
    """A shard of candidates: its name, its number of samples, and the sha256 of its uids."""

    name: str
    samples: int
    uids: str


class Policy:
    """A recorded data policy. Raises `UserError` if the store holds none."""

    def __init__(self, store: Store) -> None:
        self.store = store
        shards = read_shards(store)
        if shards is None:
            raise UserError(f"{store.url} holds no data policy", fix="name the folder of a run, which contains policy/")
        self.shards = shards
        self._uids: OrderedDict[int, list[str]] = OrderedDict()  # shard's number -> uids; the most recently used

    def uids(self, number: int) -> list[str]:
        """Return the uids of a shard's samples. Raises `UserError` for a damaged file."""
        if number not in self._uids:
            key, wanted = uids_key(self.shards[number].uids), self.shards[number].uids
            found = read_parquet(self.store, key, RESTORE, ["uid"]).column("uid").to_pylist()
            if sha256(b"".join(found)).hexdigest() != wanted:  # not a bad read: pages have checksums
                raise UserError(f"{self.store.location(key)} is damaged: its uids are not {wanted[:12]}", fix=RESTORE)
            self._uids[number] = [uid.hex() for uid in found]
            if len(self._uids) > SHARDS_HELD:
                self._uids.popitem(last=False)
        self._uids.move_to_end(number)
        return self._uids[number]

    def steps(self, begin: int = 0) -> Iterator[PolicyStep]:
        """Yield every step from `begin` on once, in order. A step that was recorded twice has its later record.

        Files of earlier steps are not read. Raises `UserError` if a step is missing.
        """
        files = step_files(self.store)
        later = [first for _, first in files if first > begin]
        files = files[max(0, len(files) - len(later) - 1) :]
        expected = files[0][1] if files and begin else 0
        for (key, _), following in zip(files, [*(first for _, first in files[1:]), None], strict=True):
            for row in read_parquet(self.store, key, RESTORE, SCHEMA.names).to_pylist():
                if following is not None and row["step"] >= following:
                    break
                if row["step"] != expected:
                    text = f"{self.store.url} has no steps {expected:,} to {row['step'] - 1:,}: a file is missing"
                    raise UserError(text, fix=RESTORE)
                expected += 1
                if row["step"] >= begin:
                    yield _step(row)

    def sha256(self, steps: int) -> str:
        """Return a hash of the etags of the files from which the first `steps` steps are replayed."""
        wanted = {"shards.parquet", *(key for key, first in step_files(self.store) if first < steps)}
        return digest(sorted([item.key, item.etag] for item in self.store.list() if item.key in wanted))

    def steps_and_batch(self) -> tuple[int, int]:
        """Return the number of steps, and the number of samples that the first one chose. Reads at most two files."""
        files = step_files(self.store)
        if not files:
            return 0, 0
        ends = (files[0], files[-1])
        first, last = (read_parquet(self.store, key, RESTORE, ["step", "chosen"]) for key, _ in ends)
        return last.column("step")[-1].as_py() + 1, len(first.column("chosen")[0])

    def counts(self) -> Counter[str]:
        """Return uid -> how often the sample was trained on: the sample weights of a snapshot of this policy."""
        rows: Counter[int] = Counter()
        for step in self.steps():
            rows.update(step.candidates[step.chosen].tolist())
        return self.sum_by_uid(rows)

    def sum_by_uid(self, rows: Mapping[int, int]) -> Counter[str]:
        """Sum counts of rows by uid, since shards of two snapshots may hold the same sample."""
        found: Counter[str] = Counter()
        for row in sorted(rows):
            number, own = split(row)
            found[self.uids(number)[own]] += rows[row]
        return found

    def distinct(self) -> int:
        """Count the distinct samples of all shards, out of core; reads 16 bytes for each sample."""
        with tables.scratch() as db:
            db.execute("CREATE TABLE uids (uid BLOB)")
            for shard in self.shards:
                tables.insert(db, "uids", read_parquet(self.store, uids_key(shard.uids), RESTORE, ["uid"]))
            ((count,),) = db.execute("SELECT count(DISTINCT uid) FROM uids").fetchall()
        return int(count)


def describe(policy: Policy) -> dict[str, Any]:
    """Return a policy's totals and its size in bytes. Streams its steps.

    `pool` counts the samples of the candidates' shards; `times` maps 0, 1, 2, ... to the number of samples that were
    trained on so many times.
    """
    steps = scored = candidates = chosen = lag = 0
    times: Counter[int] = Counter()
    models: Counter[str] = Counter()
    for step in policy.steps():
        steps += 1
        scored += step.scores is not None
        candidates, chosen, lag = candidates + len(step.candidates), chosen + len(step.chosen), max(lag, step.lag)
        times.update(step.candidates[step.chosen].tolist())
        models.update(step.models.keys())
    size = sum(policy.store.size(item.key) for item in policy.store.list(etags=False))
    trained, pool = policy.sum_by_uid(times), policy.distinct()
    counts = Counter(trained.values())
    return {
        "steps": steps, "scored": scored, "candidates": candidates, "chosen": chosen, "pool": pool,
        "lag": lag, "models": sorted(models), "bytes": size, "bytes_per_candidate": round(size / max(1, candidates), 2),
        "times": {0: pool - len(trained), **dict(sorted(counts.items()))},
    }  # fmt: skip


def step_files(store: Store) -> list[tuple[str, int]]:
    """List the files of steps, in order, with the first step of each."""
    keys = sorted(item.key for item in store.list(etags=False) if re.fullmatch(r"steps-\d+\.parquet", item.key))
    return [(key, int(key.removeprefix("steps-").removesuffix(".parquet"))) for key in keys]


def read_shards(store: Store) -> list[PolicyShard] | None:
    """Return the shards of a policy; None if there is no policy."""
    try:
        table = read_parquet(store, "shards.parquet", RESTORE, PolicyShard._fields)
    except NotFoundError:
        return None
    return [PolicyShard(**row) for row in table.to_pylist()]


def uids_key(sha256: str) -> str:
    return f"uids/{sha256}.parquet"


def _step(row: Mapping[str, Any]) -> PolicyStep:
    def array(name: str, kind: type) -> np.ndarray[Any, Any]:
        return np.asarray(row[name], kind)

    return PolicyStep(
        row["step"],
        array("candidates", np.int64),
        None if row["scores"] is None else array("scores", np.float32),
        array("chosen", np.int64),
        dict(text.split(" ", 1) for text in row["models"]),
        row["lag"],
    )
