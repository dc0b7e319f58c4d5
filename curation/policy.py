"""A data policy: what a run chose, step by step, so that another learner can be trained on the very same batches.

    <folder>/candidates.parquet    uid, a row a sample of the pool, in the pool's order: once
    <folder>/steps-<first>.parquet step, lag, models (their hashes), candidates, scores, chosen: a row a step

Candidates are positions in the pool (4 bytes), scores float32, chosen positions among the candidates (4 bytes): about
8 bytes a candidate and 2 a chosen sample before zstd, and 16 a sample of the pool once. A replay needs the pool, found
again by uid, and no model: scoring is bought once for learners of every size.
Source: 2312.05328, section 5 (data policies trained once and reused, "active learning as a service").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from curation.errors import NotFoundError, UserError
from curation.ledger import digest
from curation.online import Choice, OnlineStep
from curation.parquet import from_parquet, to_parquet
from curation.pool import Pool
from curation.store import Store

STEPS_A_FILE = 1000  # 128 of 256: about 2 MB

_SCHEMA = pa.schema(
    [
        ("step", pa.int32()),
        ("lag", pa.int32()),  # updates by which the scoring models were older than the learner
        ("models", pa.list_(pa.string())),  # "role fingerprint" of the models that chose: sha256 of their weights
        ("candidates", pa.list_(pa.int32())),
        ("scores", pa.list_(pa.float32())),  # null where nothing was scored
        ("chosen", pa.list_(pa.int32())),
    ]
)


class PolicyStep(NamedTuple):
    """One recorded step: rows of the pool, their scores, and which of them were trained on."""

    number: int
    candidates: np.ndarray[Any, Any]
    scores: np.ndarray[Any, Any] | None
    chosen: np.ndarray[Any, Any]
    models: Mapping[str, str]
    lag: int


class PolicyWriter:
    """Records steps as they happen; at most `STEPS_A_FILE` of them are in memory. Close it to write the rest."""

    def __init__(self, store: Store, uids: Sequence[str], *, begin: int = 0) -> None:
        """`begin`: the step that is recorded next; what is there of later ones is of a run that has not got on."""
        self.store = store
        self._rows: list[dict[str, Any]] = []
        found = _candidates(store)
        for key, first in [] if found is None else _files(store):
            if first >= begin:
                store.delete(key)
        known = found or []  # of a run that goes on, perhaps with other data: their places stay
        places = {uid: place for place, uid in enumerate(known)}
        self._places = np.array([places.setdefault(uid, len(places)) for uid in uids], np.int64)
        if len(places) > len(known):
            data = to_parquet(pa.table({"uid": pa.array([bytes.fromhex(uid) for uid in places], pa.binary(16))}))
            store.put("candidates.parquet", data)

    def add(self, choice: Choice) -> None:
        self._rows.append(
            {
                "step": choice.number,
                "lag": choice.lag,
                "models": [f"{role} {sha}" for role, sha in sorted(choice.models.items())],
                "candidates": self._places[choice.candidates.numpy()],
                "scores": None if choice.scores is None else choice.scores.numpy(),
                "chosen": choice.chosen.numpy(),
            }
        )
        if len(self._rows) == STEPS_A_FILE:
            self.close()

    def close(self) -> None:
        """Write what is in memory. A run that goes on from an earlier step writes its files over the later ones."""
        if self._rows:
            table = pa.Table.from_pylist(self._rows, _SCHEMA)
            self.store.put(f"steps-{self._rows[0]['step']:08d}.parquet", to_parquet(table))
            self._rows = []


class Policy:
    """A recorded data policy. Raises `UserError` where there is none."""

    def __init__(self, store: Store) -> None:
        self.store = store
        uids = _candidates(store)
        if uids is None:
            raise UserError(f"{store.url} holds no data policy", fix="name the policy/ folder of a run")
        self.uids = uids

    def steps(self) -> Iterator[PolicyStep]:
        """Every step once, in order; of one that was recorded twice, what the later file says. Raises `UserError` where
        some are missing in between."""
        files, expected = _files(self.store), 0
        for (key, _), following in zip(files, [*(first for _, first in files[1:]), None], strict=True):
            for row in from_parquet(self.store.get(key)).to_pylist():
                if following is not None and row["step"] >= following:
                    break
                if row["step"] != expected:
                    text = f"{self.store.url} lacks steps {expected:,} to {row['step'] - 1:,}: a file is gone"
                    raise UserError(text, fix="put it back, or make that run anew")
                expected += 1
                yield _step(row)

    def sha256(self, steps: int) -> str:
        """Of what the first `steps` steps are replayed from, by the files' etags: another run's have others."""
        wanted = {"candidates.parquet", *(key for key, first in _files(self.store) if first < steps)}
        return digest(sorted([item.key, item.etag] for item in self.store.list() if item.key in wanted))

    def extent(self) -> tuple[int, int]:
        """How many steps there are, and how many samples the first one was trained on. Reads one file or two."""
        files = _files(self.store)
        if not files:
            return 0, 0
        first, last = (from_parquet(self.store.get(key), ["step", "chosen"]) for key, _ in (files[0], files[-1]))
        return last.column("step")[-1].as_py() + 1, len(first.column("chosen")[0])

    def counts(self) -> Counter[str]:
        """How often each sample was trained on, by uid: the weights of a snapshot made from this policy."""
        found: Counter[str] = Counter()
        for step in self.steps():
            found.update(self.uids[row] for row in step.candidates[step.chosen])
        return found


def replay(learner: Any, pool: Pool, policy: Policy) -> Iterator[OnlineStep]:
    """Train `learner` on the recorded sub-batches from its own step on, with no scoring at all.

    The pool may be in another order, or hold more. Raises `UserError` when it lacks a sample that was trained on.
    """
    places = {uid: row for row, uid in enumerate(pool.examples.uids)}
    for step in policy.steps():
        if step.number < learner.steps:
            continue
        uids = [policy.uids[row] for row in step.candidates[step.chosen]]
        missing = [uid for uid in uids if uid not in places]
        if missing:
            raise UserError(
                f"sample {missing[0]} of the data policy is not in this pool", fix="replay on the same data"
            )
        rows = torch.tensor([places[uid] for uid in uids])
        report = learner.step(pool.rows(rows).batch)
        yield OnlineStep(Choice(step.number, rows, None, torch.arange(len(rows))), report, None, proxies=False)


def describe(policy: Policy) -> dict[str, Any]:
    """What a policy holds, and its size; `times`: how many samples were trained on once, twice, ... Streams steps."""
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
    counts = Counter(times.values())
    return {
        "steps": steps, "scored": scored, "candidates": candidates, "chosen": chosen, "pool": len(policy.uids),
        "lag": lag, "models": sorted(models), "bytes": size, "bytes_per_candidate": round(size / max(1, candidates), 2),
        "times": {0: len(policy.uids) - len(times), **dict(sorted(counts.items()))},
    }  # fmt: skip


def _files(store: Store) -> list[tuple[str, int]]:
    """The files of steps, in order, with the first step of each."""
    keys = sorted(item.key for item in store.list(etags=False) if item.key.startswith("steps-"))
    return [(key, int(key.removeprefix("steps-").removesuffix(".parquet"))) for key in keys]


def _candidates(store: Store) -> list[str] | None:
    """The uids that policies of this folder speak of; None where there are none."""
    try:
        table = from_parquet(store.get("candidates.parquet"))
    except NotFoundError:
        return None
    return [uid.hex() for uid in table.column("uid").to_pylist()]


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
