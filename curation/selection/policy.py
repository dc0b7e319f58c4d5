"""A data policy: the recorded choices of a run, by which another learner is trained on the same sub-batches.

    <folder>/steps-<first>.parquet    step, lag, models (their hashes), candidates, scores, chosen: a row a step
    <folder>/shards.parquet           name, samples, uids (the sha256 of its file): a row for each shard
    <folder>/uids/<sha256>.parquet    uid: a row for each sample of the shard, written once

Candidates are rows of the pool (`curation.selection.pool`: shard and index in it), with the shards numbered as in
`shards.parquet`; scores are float32, chosen positions among the candidates (4 bytes): about 8 bytes a candidate and 2 a
chosen sample after zstd, and 16 once for every sample of the shards. A replay needs the samples, found by uid, and no
model: scoring is paid once for learners of every size. Source: 2312.05328, section 5 (data policies trained once and
reused, "active learning as a service").
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from curation.core.digest import digest
from curation.core.errors import BucketError, NotFoundError, UserError
from curation.models.batches import TrainingBatch
from curation.selection.online import Choice, OnlineStep
from curation.selection.pool import Pool
from curation.selection.pool_blocks import joined, split
from curation.storage import tables
from curation.storage.parquet import read_parquet, to_parquet
from curation.storage.store import Store

STEPS_A_FILE = 1000  # 128 of 256: about 2 MB
SHARDS_HELD = 64  # whose uids are in memory while a policy is read
_AGAIN = "restore it, or repeat that run"

_SCHEMA = pa.schema(
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


class PolicyWriter:
    """Records steps; at most `STEPS_A_FILE` of them are in memory. Close it to write the rest."""

    def __init__(self, store: Store, pool: Pool, *, begin: int = 0) -> None:
        """begin: the step that is recorded next. Files of later steps, from after the last checkpoint, are deleted."""
        self.store, self.pool, self._names = store, pool, pool.blocks.names()
        self._rows: list[dict[str, Any]] = []
        self._met = _shards(store) or []  # of a resumed run, perhaps with other data
        self._numbers = {met.uids: number for number, met in enumerate(self._met)}
        self._known: dict[int, int] = {}  # ordinal in the pool -> number in shards.parquet
        self._written = len(self._met)
        with suppress(BucketError):  # the folder does not exist yet
            for key, first in _files(store):
                if first >= begin:
                    store.delete(key)

    def add(self, choice: Choice) -> None:
        """Record a step."""
        self._rows.append(
            {
                "step": choice.number,
                "lag": choice.lag,
                "models": [f"{role} {sha}" for role, sha in sorted(choice.models.items())],
                "candidates": self._counted(choice.candidates),
                "scores": None if choice.scores is None else choice.scores.numpy(),
                "chosen": choice.chosen.numpy(),
            }
        )
        if len(self._rows) == STEPS_A_FILE:
            self.close()

    def close(self) -> None:
        """Write what is in memory."""
        if len(self._met) > self._written:
            columns = zip(*self._met, strict=True)
            table = pa.table(dict(zip(PolicyShard._fields, map(list, columns), strict=True)))
            self.store.put("shards.parquet", to_parquet(table, checksums=True))
            self._written = len(self._met)
        if self._rows:
            table = pa.Table.from_pylist(self._rows, _SCHEMA)
            self.store.put(f"steps-{self._rows[0]['step']:08d}.parquet", to_parquet(table, checksums=True))
            self._rows = []

    def _counted(self, rows: torch.Tensor) -> np.ndarray[Any, Any]:
        """Return rows of the pool with the shards numbered as in shards.parquet."""
        ordinals, own = split(rows)
        each, places = np.unique(ordinals.numpy(), return_inverse=True)
        numbers = np.array([self._number(ordinal) for ordinal in each.tolist()])
        return joined(numbers[places], own.numpy())

    def _number(self, ordinal: int) -> int:
        if ordinal not in self._known:
            uids = self.pool.blocks.block(ordinal).uids
            data = bytes.fromhex(b"".join(uids).decode())
            met = PolicyShard(self._names[ordinal], len(uids), sha256(data).hexdigest())
            if met.uids not in self._numbers:
                key = _uids_key(met.uids)
                if not self.store.exists(key):
                    values = [data[start : start + 16] for start in range(0, len(data), 16)]
                    self.store.put(key, to_parquet(pa.table({"uid": pa.array(values, pa.binary(16))})))
                self._numbers[met.uids] = len(self._met)
                self._met.append(met)
            self._known[ordinal] = self._numbers[met.uids]
        return self._known[ordinal]


class Policy:
    """A recorded data policy. Raises `UserError` where there is none."""

    def __init__(self, store: Store) -> None:
        self.store = store
        met = _shards(store)
        if met is None:
            raise UserError(f"{store.url} holds no data policy", fix="name a run; its folder policy/ is read")
        self.met = met
        self._uids: OrderedDict[int, list[str]] = OrderedDict()  # of the most recently used shards

    def uids(self, number: int) -> list[str]:
        """Return the uids of a shard's samples. Raises `UserError` for a damaged file."""
        if number not in self._uids:
            key, wanted = _uids_key(self.met[number].uids), self.met[number].uids
            found = read_parquet(self.store, key, _AGAIN, ["uid"]).column("uid").to_pylist()
            if sha256(b"".join(found)).hexdigest() != wanted:  # not a bad read: pages have checksums
                raise UserError(f"{self.store.location(key)} is damaged: its uids are not {wanted[:12]}", fix=_AGAIN)
            self._uids[number] = [uid.hex() for uid in found]
            if len(self._uids) > SHARDS_HELD:
                self._uids.popitem(last=False)
        self._uids.move_to_end(number)
        return self._uids[number]

    def steps(self, begin: int = 0) -> Iterator[PolicyStep]:
        """Yield every step from `begin` on once, in order; of a step that was recorded twice, the later record.

        Files of earlier steps are not read. Raises `UserError` where a step is missing.
        """
        files = _files(self.store)
        later = [first for _, first in files if first > begin]
        files = files[max(0, len(files) - len(later) - 1) :]
        expected = files[0][1] if files and begin else 0
        for (key, _), following in zip(files, [*(first for _, first in files[1:]), None], strict=True):
            for row in read_parquet(self.store, key, _AGAIN, _SCHEMA.names).to_pylist():
                if following is not None and row["step"] >= following:
                    break
                if row["step"] != expected:
                    text = f"{self.store.url} has no steps {expected:,} to {row['step'] - 1:,}: a file is missing"
                    raise UserError(text, fix=_AGAIN)
                expected += 1
                if row["step"] >= begin:
                    yield _step(row)

    def sha256(self, steps: int) -> str:
        """Return a hash of the files that the first `steps` steps are replayed from, by their etags."""
        wanted = {"shards.parquet", *(key for key, first in _files(self.store) if first < steps)}
        return digest(sorted([item.key, item.etag] for item in self.store.list() if item.key in wanted))

    def extent(self) -> tuple[int, int]:
        """Return the number of steps, and of the first step's chosen samples. Reads at most two files."""
        files = _files(self.store)
        if not files:
            return 0, 0
        ends = (files[0], files[-1])
        first, last = (read_parquet(self.store, key, _AGAIN, ["step", "chosen"]) for key, _ in ends)
        return last.column("step")[-1].as_py() + 1, len(first.column("chosen")[0])

    def counts(self) -> Counter[str]:
        """Return how often each sample was trained on, by uid: the sample weights of a snapshot of this policy."""
        rows: Counter[int] = Counter()
        for step in self.steps():
            rows.update(step.candidates[step.chosen].tolist())
        return self.by_uid(rows)

    def by_uid(self, rows: Mapping[int, int]) -> Counter[str]:
        """Sum counts of rows by uid: shards of two snapshots may hold the same sample."""
        found: Counter[str] = Counter()
        for row in sorted(rows):
            number, own = split(row)
            found[self.uids(number)[own]] += rows[row]
        return found

    def distinct(self) -> int:
        """Count the distinct samples of all shards, out of core: 16 bytes of each are read."""
        with tables.scratch() as db:
            db.execute("CREATE TABLE met (uid BLOB)")
            for met in self.met:
                tables.insert(db, "met", read_parquet(self.store, _uids_key(met.uids), _AGAIN, ["uid"]))
            ((count,),) = db.execute("SELECT count(DISTINCT uid) FROM met").fetchall()
        return int(count)


def replay(
    learner: Any, pool: Pool, policy: Policy, until: int | None = None, *, shared: int = 1
) -> Iterator[OnlineStep]:
    """Train `learner` on the recorded sub-batches from its own step on, without scoring; yield after each step.

    pool: may have another order, or more samples. If it exceeds memory, half of the memory holds the samples of the
    next steps, which are gathered together, shard by shard. until: the step to stop before; None: after the last one.
    shared: learners that share the memory, each with the samples of its own next steps.
    Raises `UserError` for a recorded sample that the pool does not have.
    """
    found, room = _Found(pool, policy), pool.blocks.room
    steps = takewhile(lambda step: until is None or step.number < until, policy.steps(learner.steps))
    for group in _groups(steps, 0 if room is None else 2 * room // shared):
        yield from _train_on(learner, pool, group, [found.rows(step.candidates[step.chosen]) for step in group])


def _train_on(
    learner: Any, pool: Pool, group: Sequence[PolicyStep], rows: Sequence[torch.Tensor]
) -> Iterator[OnlineStep]:
    """Make steps whose samples are gathered in memory."""
    batch, start = pool.rows(torch.cat(list(rows))).batch, 0
    for step, own in zip(group, rows, strict=True):
        report = learner.step(TrainingBatch(*(column[start : start + len(own)] for column in batch)))
        start += len(own)
        yield OnlineStep(Choice(step.number, own, None, torch.arange(len(own))), report, None, proxies=False)


def _groups(steps: Iterable[PolicyStep], samples: int) -> Iterator[list[PolicyStep]]:
    """Group consecutive steps with at most `samples` chosen samples; a larger step is a group of its own."""
    group: list[PolicyStep] = []
    held = 0
    for step in steps:
        if group and held + len(step.chosen) > samples:
            yield group
            group, held = [], 0
        group.append(step)
        held += len(step.chosen)
    if group:
        yield group


class _Found:
    """Finds the samples of a policy in a pool: by shard and index where a shard is the same, else by uid."""

    def __init__(self, pool: Pool, policy: Policy) -> None:
        self.pool, self.policy = pool, policy
        self._ordinals = {name: ordinal for ordinal, name in enumerate(pool.blocks.names())}
        self._alike: dict[int, int | None] = {}  # number in the policy -> ordinal in the pool
        self._places: dict[str, int] | None = None

    def rows(self, recorded: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.tensor([self._row(row) for row in recorded.tolist()])

    def _row(self, recorded: int) -> int:
        number, own = split(recorded)
        if number not in self._alike:
            self._alike[number] = self._same(number)
        ordinal = self._alike[number]
        if ordinal is not None:
            return int(joined(ordinal, own))
        uid = self.policy.uids(number)[own]
        if self.pool.blocks.room is not None:
            text = f"shard {self.policy.met[number].name} of the data policy has changed or is missing"
            why = "and its samples can't be searched in a pool that exceeds memory"
            raise UserError(f"{text}, {why}", fix="replay on the same data, or with a larger memory:")
        if self._places is None:
            self._places = self.pool.places()
        if uid not in self._places:
            raise UserError(f"sample {uid} of the data policy is not in this pool", fix="replay on the same data")
        return self._places[uid]

    def _same(self, number: int) -> int | None:
        ordinal = self._ordinals.get(self.policy.met[number].name)
        if ordinal is None:
            return None
        uids = [uid.decode() for uid in self.pool.blocks.block(ordinal).uids]
        return ordinal if uids == self.policy.uids(number) else None


def describe(policy: Policy) -> dict[str, Any]:
    """Return what a policy holds, and its size in bytes. Streams its steps.

    `pool` counts the samples of the candidates' shards; `times` those that were trained on never, once, twice, ...
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
    trained, pool = policy.by_uid(times), policy.distinct()
    counts = Counter(trained.values())
    return {
        "steps": steps, "scored": scored, "candidates": candidates, "chosen": chosen, "pool": pool,
        "lag": lag, "models": sorted(models), "bytes": size, "bytes_per_candidate": round(size / max(1, candidates), 2),
        "times": {0: pool - len(trained), **dict(sorted(counts.items()))},
    }  # fmt: skip


def _files(store: Store) -> list[tuple[str, int]]:
    """List the files of steps, in order, with the first step of each."""
    keys = sorted(item.key for item in store.list(etags=False) if re.fullmatch(r"steps-\d+\.parquet", item.key))
    return [(key, int(key.removeprefix("steps-").removesuffix(".parquet"))) for key in keys]


def _shards(store: Store) -> list[PolicyShard] | None:
    """Return the shards of a policy; None where there is no policy."""
    try:
        table = read_parquet(store, "shards.parquet", _AGAIN, PolicyShard._fields)
    except NotFoundError:
        return None
    return [PolicyShard(**row) for row in table.to_pylist()]


def _uids_key(sha256: str) -> str:
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
