"""The recorder of a data policy: one row for each step, and each shard's uids once."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from curation.core.errors import BucketError
from curation.selection.online import Choice
from curation.selection.policy import SCHEMA, PolicyShard, read_shards, step_files, uids_key
from curation.selection.pool import Pool
from curation.selection.pool_blocks import joined, split
from curation.storage.parquet import to_parquet
from curation.storage.store import Store

STEPS_A_FILE = 1000  # with 128 of 256 candidates chosen: about 2 MB


class PolicyWriter:
    """Records steps, and holds at most `STEPS_A_FILE` of them in memory. Close it to write the rest."""

    def __init__(self, store: Store, pool: Pool, *, begin: int = 0) -> None:
        """begin: the next step to record. Files that start at it or later, after the last checkpoint, are deleted."""
        self.store, self.pool, self._names = store, pool, pool.blocks.names()
        self._rows: list[dict[str, Any]] = []
        self._shards = read_shards(store) or []  # a resumed run continues them, perhaps with other data
        self._numbers = {shard.uids: number for number, shard in enumerate(self._shards)}
        self._known: dict[int, int] = {}  # ordinal in the pool -> number in shards.parquet
        self._written = len(self._shards)
        with suppress(BucketError):  # the folder does not exist yet
            for key, first in step_files(store):
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
        """Write the shards and steps that are in memory."""
        if len(self._shards) > self._written:
            columns = zip(*self._shards, strict=True)
            table = pa.table(dict(zip(PolicyShard._fields, map(list, columns), strict=True)))
            self.store.put("shards.parquet", to_parquet(table, checksums=True))
            self._written = len(self._shards)
        if self._rows:
            table = pa.Table.from_pylist(self._rows, SCHEMA)
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
            shard = PolicyShard(self._names[ordinal], len(uids), sha256(data).hexdigest())
            if shard.uids not in self._numbers:
                key = uids_key(shard.uids)
                if not self.store.exists(key):
                    values = [data[start : start + 16] for start in range(0, len(data), 16)]
                    self.store.put(key, to_parquet(pa.table({"uid": pa.array(values, pa.binary(16))})))
                self._numbers[shard.uids] = len(self._shards)
                self._shards.append(shard)
            self._known[ordinal] = self._numbers[shard.uids]
        return self._known[ordinal]
