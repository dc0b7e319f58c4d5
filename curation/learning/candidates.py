"""Candidates of a run: their shards, and how a shard of them is read. Shards are read by `curation.learning.blocks`.

Of a snapshot's manifest, only the part that describes the shard is read, and of it only the columns that are needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite, nan
from threading import Event
from typing import Any, NamedTuple

import numpy as np
import torch

from curation.core.errors import UserError
from curation.dataset.examples import gather
from curation.dataset.loader import ListedShard, Part, SampleStream, split_label
from curation.dataset.snapshot import Snapshot, open_snapshot
from curation.learning.leakage_check import BY_NAME
from curation.learning.score_column import ScoreColumn
from curation.models import preprocess_for
from curation.models.batches import Examples
from curation.recipes.learning_recipe import LearnRecipe
from curation.selection.pool_blocks import Block
from curation.storage.store import StoreOptions


class SnapshotPlace(NamedTuple):
    """A snapshot, small enough to be sent with every task: its root and number."""

    root: str
    number: int


@dataclass(frozen=True)
class Candidates:
    """Shards to draw candidates from, and everything that is needed to read one. Sent to the reading processes.

    urls: of the sources. shards: each with the index of its source. snapshots: of each source, None for a corpus.
    means: the mean sample weight of each source; None where all samples weigh the same.
    classes: of a classifier; () for other learners. column: the reference's scores, where the selector reads them.
    sha256: of the shards, by content.
    """

    recipe: LearnRecipe
    urls: tuple[str, ...]
    shards: tuple[tuple[int, ListedShard], ...]
    snapshots: tuple[SnapshotPlace | None, ...]
    means: tuple[float | None, ...]
    classes: tuple[str, ...]
    column: ScoreColumn | None
    sha256: str

    def read(self, ordinal: int, stop: Event | None = None) -> tuple[Block, Counter[str]]:
        """Read the usable samples of shard `ordinal`; also return the skipped samples by reason.

        stop: ends the read with `StoppedError` once it is set. Raises `UserError` for a shard that exceeds memory.
        """
        return self.read_shard(*self.shards[ordinal], stop)

    def read_shard(self, source: int, shard: ListedShard, stop: Event | None = None) -> tuple[Block, Counter[str]]:
        """Read the usable samples of a shard of the source with this index. See `read`."""
        recipe = self.recipe
        stream = stream_of([shard], recipe, "train" if recipe.holdout else "all")
        examples = gather(stream, budget=recipe.memory, stop=stop)
        if examples is None:
            text = f"{shard.store.location(shard.ref.key)} does not fit into {recipe.memory:,} bytes of memory at"
            raise UserError(f"{text} {stream.size} px", fix="a larger `memory:`, or smaller shards")
        skipped, labels = stream.skipped, [split_label(label) for label in examples.labels]
        examples = relabelled(examples, [values[0] for values in labels])
        rows = recipe.learner.usable_rows(examples, self.classes)
        if len(rows) < len(examples):
            skipped["no_class"] += len(examples) - len(rows)
            examples, labels = examples.take(list(rows)), [labels[row] for row in rows]
        fields = {name: [values[1 + number] for values in labels] for number, name in enumerate(recipe.by)}
        block = self._with_manifest(source, shard, examples, fields)
        return block, skipped

    def _with_manifest(
        self, source: int, shard: ListedShard, examples: Examples, fields: dict[str, list[str]]
    ) -> Block:
        """Add the values of the manifest: fields that the samples don't have, weights, and the reference's losses."""
        uids, mean = examples.uids, self.means[source]
        missing = [name for name, values in fields.items() if not any(values)]
        wanted = [*missing, *([self.column.name] if self.column else []), *(["weight"] if mean else [])]
        known = self._manifest_values(source, shard, wanted)
        fields |= {name: [str(known[name].get(uid, "")) for uid in uids] for name in missing if name in known}
        if len(self.urls) > 1:
            fields["data"] = [self.urls[source]] * len(uids)
        weights, losses = None, None
        if mean:
            each = [known["weight"].get(uid, 1.0) for uid in uids]
            weights = torch.tensor(each, dtype=torch.float64) / mean
        if self.column:
            losses = _losses(uids, known[self.column.name], self.column, self.column.signs[source])
        targets = self.recipe.learner.targets(examples, self.classes)
        return Block(examples.pixels, targets, np.array(uids, "S"), weights, losses, fields)

    def _manifest_values(self, source: int, shard: ListedShard, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return values of manifest columns, by name and uid, for the samples of one output shard.

        Columns that the manifest doesn't have are left out; so are all of a source that is no snapshot.
        """
        place = self.snapshots[source] if names else None
        if place is None:
            return {}
        snapshot = _open(place, self.recipe.options, self.sha256)
        wanted = [name for name in names if name in snapshot.reader().schema.names]
        table = snapshot.part_of(shard.ref.key, ["uid", *wanted])
        uids = table.column("uid").to_pylist()
        columns = {name: zip(uids, table.column(name).to_pylist(), strict=True) for name in wanted}
        return {name: {uid: value for uid, value in column if value is not None} for name, column in columns.items()}

    def names(self) -> list[str]:
        """Return the name of each shard, by which another run recognises it: key, size and etag."""
        return [" ".join(map(str, shard.ref)) for _, shard in self.shards]


@lru_cache(maxsize=8)
def _open(place: SnapshotPlace, options: StoreOptions, sha256: str) -> Snapshot:
    """Open a snapshot once a process. `sha256` tells apart another snapshot that was put at the same place since."""
    return open_snapshot(place.root, place.number, options)


def _losses(uids: Sequence[str], scores: Mapping[str, Any], column: ScoreColumn, sign: int) -> torch.Tensor:
    """Return the losses that a column stands for, float32 `[N]`. Raises `UserError` for a sample without a score."""
    without = [uid for uid in uids if not isfinite(scores.get(uid, nan))]
    if without:
        raise UserError(f"sample {without[0]} has no score {column.name}", fix="score the snapshot with that scorer")
    return torch.tensor([sign * scores[uid] for uid in uids], dtype=torch.float32)


def stream_of(shards: Sequence[ListedShard], recipe: LearnRecipe, part: Part) -> SampleStream:
    """Return a stream of one part of the samples, decoded for the learner, in their order."""
    view = preprocess_for(recipe.learner.model)
    label = recipe.learner.label_field or "name"
    group = "name" if recipe.learner.holdout_unit == BY_NAME else ""
    return SampleStream(
        shards, size=view.size, mode=view.mode, shuffle=0, part=part, holdout=recipe.holdout, label=(label, *recipe.by),
        group=group,
    )  # fmt: skip


def relabelled(examples: Examples, labels: list[str]) -> Examples:
    """Return the same samples with other labels."""
    return Examples(examples.pixels, examples.captions, examples.uids, labels)
