"""Images (or captions) with nearly equal embeddings, of which one is kept: SemDeDup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from curation.core.ranges import check_seed
from curation.filters.filter import table_of
from curation.filters.hash_uniform import hash_uniform
from curation.filters.vectors import MAX_THRESHOLD, expect_vectors, matrix, stream
from curation.storage.tables import insert

if TYPE_CHECKING:
    import duckdb
    from torch import Tensor

Array = np.ndarray[Any, Any]
CLUSTER = 1000  # samples of a cluster, about: each is compared with these
MOST_CLUSTERS = 1 << 16
SAMPLE = 32  # vectors a centre in the sample from which the centres are computed
SAMPLE_BYTES = 1 << 29
BLOCK = 1024  # samples compared at once
IDS = 1 << 16  # ids of dropped samples in one insert, about


@dataclass(frozen=True, kw_only=True)
class SemanticDuplicates:
    """Keep the first of the samples in a k-means cluster whose embeddings have a cosine of at least `threshold`.

    The order is that of `prefer`, the highest score first (ties: smaller uid). Without `prefer`, `keep` gives the
    order: `first`, source order; `hard`, samples far from their cluster's centre first; `easy`, samples near it first.
    A sample is dropped when a *kept* sample is that similar; with `chains`, when any earlier sample is, as in the
    published code: then only the first of a chain of neighbours is kept. `clusters` defaults to n / 1,000, at most
    65,536: two levels of spherical k-means, computed from 32 vectors a centre or at most 512 MB, which a hash of seed
    and uid draws. Similar samples in different clusters are not found. Every encoder has its own scale of cosines (the
    paper uses about 0.95): inspect some pairs before you choose a threshold.
    Cost: 1,000 D + 2 sqrt(clusters) D multiply-adds a sample, 2 D bytes of local disk, and a sort; out of core. Beyond
    65 million samples clusters grow, and so does the cost of a sample: n / 65,536 D multiply-adds, 15,000 D for a
    billion. The kept vectors of one cluster are in memory, 4 D bytes each; with `chains`, all its vectors.
    Source: SemDeDup (2303.09540), section 3.
    Example: semantic_duplicates: {threshold: 0.95, prefer: clip_score}
    """

    code: ClassVar[int] = 2

    embedding: str = "embedding"
    threshold: float = 0.95
    clusters: int | None = None
    prefer: str | None = None
    keep: Literal["first", "hard", "easy"] = "first"
    chains: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}, but must be a cosine above 0 and up to 1")
        if self.clusters is not None and not 0 < self.clusters <= MOST_CLUSTERS:
            raise ValueError(f"clusters is {self.clusters}, but must be from 1 to {MOST_CLUSTERS:,}")
        check_seed(self.seed)
        if self.prefer and self.keep != "first":
            raise ValueError("prefer and keep both set the order; give one of them")

    def columns(self) -> Sequence[str]:
        return (self.embedding, *((self.prefer,) if self.prefer else ()))

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Create the table of dropped samples: `id`, and `stays`, the kept sample that each duplicates."""
        expect_vectors(db, self.embedding)
        db.execute(f"CREATE OR REPLACE TEMP TABLE {self._table} (id BIGINT, stays BIGINT)")
        ((count,),) = db.execute("SELECT count(*) FROM alive").fetchall()
        if count < 2:
            return
        placed = f"{self._table}_placed"
        db.execute(f"CREATE OR REPLACE TABLE {placed} (id BIGINT, cluster INTEGER, similarity FLOAT)")
        self._place(db, placed, count)
        for ids, stays in _some(self._leaving(db, placed)):
            insert(db, self._table, pa.table({"id": ids, "stays": stays}))
        db.execute(f"DROP TABLE {placed}")

    def copies(self) -> str:
        """SQL of `id, detail, stays`: each dropped sample, and the kept sample that it duplicates."""
        return f"SELECT id, '' AS detail, stays FROM {self._table}"

    def drops(self) -> str:
        return f"SELECT id, '' AS detail FROM {self._table}"

    @property
    def _table(self) -> str:
        return table_of(self, "semantic")

    def _place(self, db: duckdb.DuckDBPyConnection, into: str, count: int) -> None:
        """Insert the cluster of every sample, and its similarity to the centre, into a table."""
        clusters = self.clusters or max(1, min(MOST_CLUSTERS, round(count / CLUSTER)))
        tree = _Tree(self._sample(db, clusters, count), clusters, self.seed)
        for batch in stream(db, f'SELECT id, "{self.embedding}" FROM alive'):
            cluster, similarity = tree.place(matrix(batch.column(1)))
            insert(db, into, pa.table({"id": batch.column(0), "cluster": cluster, "similarity": similarity}))

    def _sample(self, db: duckdb.DuckDBPyConnection, clusters: int, count: int) -> Tensor:
        """Draw the vectors from which the centres are computed, by a hash of seed and uid: the same on every machine.

        A slightly larger share is selected first, so that only its numbers are sorted.
        """
        import torch

        width, luck = self._width(db), hash_uniform(self.seed, "semantic_duplicates")
        wanted = max(100, min(SAMPLE * clusters, SAMPLE_BYTES // (4 * width)))
        share = (wanted + 8 * sqrt(wanted)) / count
        query = f'SELECT "{self.embedding}" FROM alive WHERE {luck} < {share!r} ORDER BY {luck}, uid LIMIT {wanted}'
        sample, rows = torch.empty(wanted, width), 0
        for batch in stream(db, query):
            sample[rows : rows + batch.num_rows] = matrix(batch.column(0))
            rows += batch.num_rows
        return sample[:rows]

    def _width(self, db: duckdb.DuckDBPyConnection) -> int:
        ((size,),) = db.execute(f'SELECT octet_length("{self.embedding}") FROM alive LIMIT 1').fetchall()
        return int(size) // 2

    def _leaving(self, db: duckdb.DuckDBPyConnection, placed: str) -> Iterator[tuple[Array, Array]]:
        """Yield (ids of dropped samples, ids of the kept samples that they duplicate), block by block."""
        for _, blocks in groupby(_blocks(self._ordered(db, placed)), key=lambda block: block[0]):
            stays = KeptVectors(self.threshold, self.chains)
            for _, ids, vectors in blocks:
                kept = stays.leave_for(ids, vectors)
                yield ids[kept >= 0], kept[kept >= 0]

    def _ordered(self, db: duckdb.DuckDBPyConnection, placed: str) -> Iterator[pa.RecordBatch]:
        """Yield the samples cluster by cluster, within a cluster in the order of preference."""
        order = {"first": "id", "hard": "p.similarity, uid", "easy": "p.similarity DESC, uid"}[self.keep]
        if self.prefer:
            order = f'alive."{self.prefer}" DESC, uid'
        found = f'SELECT id, p.cluster, alive."{self.embedding}" FROM alive JOIN {placed} AS p USING (id)'
        return stream(db, f"{found} ORDER BY p.cluster, {order}")


class _Tree:
    """Centres on two levels: about sqrt(clusters) at the top, and about as many below each."""

    def __init__(self, sample: Tensor, clusters: int, seed: int) -> None:
        from curation.models.kmeans import assign, find_centres

        self.top = find_centres(sample, ceil(sqrt(clusters)), seed=seed)
        nearest, _ = assign(sample, self.top)
        self.below, self.first, number = [], [], 0
        for one in range(len(self.top)):
            own = sample[nearest == one]
            share = max(1, round(clusters * len(own) / len(sample)))
            self.below.append(find_centres(own, share, seed=seed) if len(own) else self.top[one : one + 1])
            self.first.append(number)
            number += len(self.below[-1])

    def place(self, vectors: Tensor) -> tuple[Array, Array]:
        """Assign vectors [N, D]: cluster of each (int32 [N]), and cosine to its centre (float32 [N])."""
        from curation.models.kmeans import assign

        above, _ = assign(vectors, self.top)
        cluster, similarity = np.empty(len(vectors), np.int32), np.empty(len(vectors), np.float32)
        for one in np.unique(above.numpy()).tolist():
            rows = (above == one).nonzero()[:, 0]
            nearest, cosine = assign(vectors[rows], self.below[one])
            cluster[rows.numpy()] = nearest.numpy() + self.first[one]
            similarity[rows.numpy()] = cosine.numpy()
        return cluster, similarity


class KeptVectors:
    """Vectors of one cluster with which later ones are compared: the kept ones, or with `chains` all.

    Vectors come in order, a block at a time. A vector is a duplicate of the first held vector that is similar to it;
    with `chains`, of the kept vector of which that one is a duplicate.
    """

    def __init__(self, threshold: float, chains: bool = False) -> None:
        self.threshold, self.chains = min(threshold, MAX_THRESHOLD), chains
        self.held: list[tuple[Tensor, Array]] = []  # vectors, and the ids of the kept samples that stand for them

    def leave_for(self, ids: Array, block: Tensor) -> Array:
        """Add vectors [N, D]; return the id of the kept sample that each duplicates, int64 [N], -1 for none."""
        import torch

        found = np.full(len(ids), -1, np.int64)
        for held, roots in self.held:
            _first(found, block @ held.T >= self.threshold, roots)
        near = (block @ block.T >= self.threshold).tril(-1)  # row: a sample, column: an earlier one
        if self.chains:
            linked = near.any(1).numpy()
            for row in np.flatnonzero(linked & (found < 0)).tolist():
                before = int(near[row].to(torch.uint8).argmax())
                found[row] = found[before] if found[before] >= 0 else ids[before]
            self._hold(block, np.where(found < 0, ids, found))
            return found
        gone = torch.from_numpy(found >= 0)
        open_, kept_here = ~gone, torch.zeros_like(gone)
        while open_.any():  # as many rounds as the longest chain has links
            sure = open_ & ~(near & open_).any(1)
            kept_here |= sure
            gone |= open_ & (near & sure).any(1)
            open_ &= ~(sure | gone)
        _first(found, near & kept_here, ids)
        stay = kept_here.numpy()
        self._hold(block[kept_here], ids[stay])
        return np.where(stay, -1, found)

    def _hold(self, some: Tensor, roots: Array) -> None:
        """Append to the last held block while it is small: a block of similar images adds none or one."""
        import torch

        if self.held and len(self.held[-1][0]) + len(some) <= BLOCK:
            last, own = self.held.pop()
            some, roots = torch.cat([last, some]), np.concatenate([own, roots])
        self.held.append((some, roots))


def _first(found: Array, similar: Tensor, ids: Array) -> None:
    """Set `found` to the id of the first similar column, for the rows that have none yet."""
    import torch

    rows = np.flatnonzero(similar.any(1).numpy() & (found < 0))
    found[rows] = ids[similar[torch.from_numpy(rows)].to(torch.uint8).argmax(1).numpy()] if len(rows) else []


def _blocks(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, Array, Tensor]]:
    """Yield (cluster, ids, vectors) of up to `BLOCK` samples of one cluster, in order."""

    def pieces() -> Iterator[tuple[int, pa.RecordBatch]]:
        for batch in batches:
            cluster = batch.column(1).to_numpy()
            bounds = [0, *(np.flatnonzero(np.diff(cluster)) + 1).tolist(), len(cluster)]
            for start, stop in pairwise(bounds):
                yield int(cluster[start]), batch.slice(start, stop - start)

    for cluster, found in groupby(pieces(), key=lambda piece: piece[0]):
        held, rows = list[pa.RecordBatch](), 0
        for _, piece in found:
            while piece.num_rows:
                held.append(piece.slice(0, BLOCK - rows))
                rows, piece = rows + held[-1].num_rows, piece.slice(held[-1].num_rows)
                if rows == BLOCK:
                    yield cluster, *_joined(held)
                    held, rows = [], 0
        if held:
            yield cluster, *_joined(held)


def _joined(pieces: Sequence[pa.RecordBatch]) -> tuple[Array, Tensor]:
    table = pa.Table.from_batches(pieces)
    return table.column(0).to_numpy(), matrix(table.column(2).combine_chunks())


def _some(found: Iterator[tuple[Array, ...]]) -> Iterator[tuple[Array, ...]]:
    """Concatenate columns of ids of many clusters to arrays of about `IDS`, for one insert each."""
    held, rows = list[tuple[Array, ...]](), 0
    for columns in found:
        held.append(columns)
        rows += len(columns[0])
        if rows >= IDS:
            yield tuple(map(np.concatenate, zip(*held, strict=True)))
            held, rows = [], 0
    if held:
        yield tuple(map(np.concatenate, zip(*held, strict=True)))
