"""All but one of the pictures (or captions) that mean the same: SemDeDup over embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, pairwise
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from curation.filters.filter import table_of
from curation.filters.vectors import expect_vectors, insert, matrix, stream

if TYPE_CHECKING:
    import duckdb
    from torch import Tensor

Array = np.ndarray[Any, Any]
CLUSTER = 1000  # samples of one, about: what each is compared with
MOST_CLUSTERS = 1 << 16
SAMPLE = 32  # vectors a centre, of which the centres are found
SAMPLE_BYTES = 1 << 29
BLOCK = 1024  # samples compared at once
ALIKE = 1 - 1e-6  # the cosine of a vector and itself may be less than 1
LAST = 1 << 128  # uids are 128 bits


@dataclass(frozen=True, kw_only=True)
class SemanticDuplicates:
    """Samples whose embeddings have a cosine of at least `threshold`, within a k-means cluster: the first stays.

    First is the highest `prefer` score (ties: smaller uid); without one, by `keep`: source order (`first`), or how near
    a sample is to its cluster's centre, `hard` those that are far from it, `easy` those that are near. A sample leaves
    when one that *stays* is as similar as that; with `chains`, when any before it is, as in the published code: of a
    chain of neighbours only the first is left. `clusters` are n / 1,000 where they are not given: two levels of
    spherical k-means on up to 32 vectors a centre, drawn by uid. Pairs that the clusters' borders part are not found:
    look at a few pairs before you choose a threshold, since every encoder has its own scale (the paper's is 0.95 or
    so).
    Cost: 1,000 D + 2 sqrt(clusters) D multiply-adds a sample, 2 D bytes of local disk and a sort; out of core.
    Source: SemDeDup (2303.09540), section 3.
    Example: semantic_duplicates: {threshold: 0.95, prefer: clip_score}
    """

    embedding: str = "embedding"
    threshold: float = 0.95
    clusters: int | None = None
    prefer: str | None = None
    keep: Literal["first", "hard", "easy"] = "first"
    chains: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError("threshold is a cosine above 0 and up to 1")
        if self.clusters is not None and not 0 < self.clusters <= MOST_CLUSTERS:
            raise ValueError(f"clusters are from 1 to {MOST_CLUSTERS:,}")
        if self.prefer and self.keep != "first":
            raise ValueError("prefer and keep are two ways to say which stays: name one")

    def columns(self) -> Sequence[str]:
        return (self.embedding, *((self.prefer,) if self.prefer else ()))

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Make the table of those that leave: `id`."""
        expect_vectors(db, self.embedding)
        db.execute(f"CREATE OR REPLACE TEMP TABLE {self._table} (id BIGINT)")
        ((count,),) = db.execute("SELECT count(*) FROM alive").fetchall()
        if count < 2:
            return
        placed = f"{self._table}_placed"
        db.execute(f"CREATE OR REPLACE TABLE {placed} (id BIGINT, cluster INTEGER, similarity FLOAT)")
        self._place(db, placed, count)
        for clusters in _some(_by_cluster(self._ordered(db, placed))):
            leaving = [ids[leave(vectors, self.threshold, self.chains)] for ids, vectors in clusters]
            insert(db, self._table, pa.table({"id": np.concatenate(leaving)}))
        db.execute(f"DROP TABLE {placed}")

    def drops(self) -> str:
        return f"SELECT id, '' AS detail FROM {self._table}"

    @property
    def _table(self) -> str:
        return table_of(self, "semantic")

    def _place(self, db: duckdb.DuckDBPyConnection, into: str, count: int) -> None:
        """The cluster of every sample, and its similarity to the centre, into a table."""
        clusters = self.clusters or max(1, min(MOST_CLUSTERS, round(count / CLUSTER)))
        tree = _Tree(self._sample(db, clusters, count), clusters, self.seed)
        for batch in stream(db, f'SELECT id, "{self.embedding}" FROM alive'):
            cluster, similarity = tree.place(matrix(batch.column(1)))
            insert(db, into, pa.table({"id": batch.column(0), "cluster": cluster, "similarity": similarity}))

    def _sample(self, db: duckdb.DuckDBPyConnection, clusters: int, count: int) -> Tensor:
        """Vectors of the samples with the smallest uids, which are hashes: the same ones everywhere."""
        width = self._width(db)
        wanted = min(SAMPLE * clusters, SAMPLE_BYTES // (4 * width))
        below = min(LAST - 1, LAST * max(wanted, 100) // count)  # never none by bad luck
        query = f"SELECT \"{self.embedding}\" FROM alive WHERE uid <= '{below:032x}' ORDER BY uid"
        return matrix(db.sql(query).to_arrow_table().column(0).combine_chunks())

    def _width(self, db: duckdb.DuckDBPyConnection) -> int:
        ((size,),) = db.execute(f'SELECT octet_length("{self.embedding}") FROM alive LIMIT 1').fetchall()
        return int(size) // 2

    def _ordered(self, db: duckdb.DuckDBPyConnection, placed: str) -> Iterator[pa.RecordBatch]:
        """Samples cluster by cluster, in each those first that would stay before others."""
        order = {"first": "id", "hard": "similarity, uid", "easy": "similarity DESC, uid"}[self.keep]
        if self.prefer:
            order = f'"{self.prefer}" DESC, uid'
        query = f'SELECT id, cluster, "{self.embedding}" FROM alive JOIN {placed} USING (id) ORDER BY cluster, {order}'
        return stream(db, query)


class _Tree:
    """Centres on two levels: about sqrt(clusters) in all, each with as many again of its own."""

    def __init__(self, sample: Tensor, clusters: int, seed: int) -> None:
        from curation.kmeans import assign, find_centres

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
        """Cluster (int32) and cosine to its centre (float32) of each vector."""
        from curation.kmeans import assign

        above, _ = assign(vectors, self.top)
        cluster, similarity = np.empty(len(vectors), np.int32), np.empty(len(vectors), np.float32)
        for one in np.unique(above.numpy()).tolist():
            rows = (above == one).nonzero()[:, 0]
            nearest, cosine = assign(vectors[rows], self.below[one])
            cluster[rows.numpy()] = nearest.numpy() + self.first[one]
            similarity[rows.numpy()] = cosine.numpy()
        return cluster, similarity


def leave(vectors: Tensor, threshold: float, chains: bool = False) -> Array:
    """Which of `vectors` [N, D], in order, leave: those that one before them is similar to, which stays, or (`chains`)
    leaves as well. bool [N]."""
    import torch

    threshold = min(threshold, ALIKE)
    stays: list[Tensor] = []
    leaves = torch.zeros(len(vectors), dtype=torch.bool)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        gone = torch.zeros(len(block), dtype=torch.bool)
        for kept in stays:
            gone |= (block @ kept.T >= threshold).any(1)
        near = (block @ block.T >= threshold).tril(-1)  # row: a sample, column: one before it
        if chains:
            stays.append(block)
            leaves[start : start + BLOCK] = gone | near.any(1)
            continue
        open_, kept_here = ~gone, torch.zeros_like(gone)
        while open_.any():  # as many rounds as the longest chain has links
            sure = open_ & ~(near & open_).any(1)
            kept_here |= sure
            gone |= open_ & (near & sure).any(1)
            open_ &= ~(sure | gone)
        stays.append(block[kept_here])
        leaves[start : start + BLOCK] = gone
    return leaves.numpy()


def _by_cluster(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[Array, Tensor]]:
    """ids and vectors of each cluster with more than one sample."""

    def pieces() -> Iterator[tuple[int, pa.RecordBatch]]:
        for batch in batches:
            cluster = batch.column(1).to_numpy()
            bounds = [0, *(np.flatnonzero(np.diff(cluster)) + 1).tolist(), len(cluster)]
            for start, stop in pairwise(bounds):
                yield int(cluster[start]), batch.slice(start, stop - start)

    for _, found in groupby(pieces(), key=lambda piece: piece[0]):
        table = pa.Table.from_batches([batch for _, batch in found])
        if table.num_rows > 1:
            yield table.column(0).to_numpy(), matrix(table.column(2).combine_chunks())


def _some(clusters: Iterator[tuple[Array, Tensor]]) -> Iterator[list[tuple[Array, Tensor]]]:
    """Clusters by the hundred: one insert for all of them."""
    while some := list(islice(clusters, 100)):
        yield some
