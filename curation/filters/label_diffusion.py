"""Label diffusion over a graph of similar pictures: how much the labels of a sample's neighbours contradict its own.

The graph connects each of n samples with its k = n / 200 nearest by cosine, at least 1; W is the symmetric matrix of
these cosines (negative ones count as 0), and S = D^-1/2 W D^-1/2. The labels Y (one-hot) are diffused to
F = (I - alpha S)^-1 Y with alpha = 0.9, by 10 steps of conjugate gradients. p is F - Y, each row divided by its sum:
what reaches a sample from the others, without its own label. The doubt is CE(q, p) to base K, the number of labels.

Up to `BLOCK` samples make one graph, as in the paper. More are divided into clusters of about half of that (spherical
k-means), each a graph of its own: cost grows with n, and memory does not. One graph's vectors, neighbours and a block
of cosines are in memory, about 150 MB. Similar pictures in different clusters are not connected.
Cost: at most `BLOCK` D multiply-adds a sample, and 20 k K for the diffusion.
Source: Iscen et al. (1904.04717), section 3; k, alpha and the number of steps as in the code of 2109.00574.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.core.distributions import cross_entropy
from curation.filters.hash_uniform import hash_uniform
from curation.filters.vectors import expect_vectors, matrix, stream
from curation.storage.tables import insert

if TYPE_CHECKING:
    import duckdb
    from torch import Tensor

Array = np.ndarray[Any, Any]

BLOCK = 16_384  # samples of one graph at most
COMPARED = 1024  # samples compared with their graph at once
SAMPLE = 64  # vectors a centre in the sample from which the centres of clusters are computed
ALPHA, STEPS, SHARE = 0.9, 10, 200


def doubts(
    db: duckdb.DuckDBPyConnection, embedding: str, label: str, seed: int, table: str
) -> Iterator[tuple[Array, Array]]:
    """Yield (ids, doubts) of all rows of the view `alive`, int64 and float64 [n], graph by graph.

    embedding, label: columns of `alive`, vectors and words; a sample without a label has the empty word. Its doubt is
    1, that of a uniform guess. seed: of the clusters. table: the prefix of the names of its tables, which are dropped
    at the end.
    """
    expect_vectors(db, embedding)
    classes, placed = f"{table}_classes", f"{table}_placed"
    db.execute(f"""
        CREATE OR REPLACE TABLE {classes} AS
        SELECT word, row_number() OVER (ORDER BY word) - 1 AS class
        FROM (SELECT DISTINCT alive."{label}" AS word FROM alive WHERE alive."{label}" <> '')""")
    db.execute(f"CREATE OR REPLACE TABLE {placed} (id BIGINT, cluster INTEGER)")
    _place(db, placed, embedding, seed)
    ((labels,),) = db.execute(f"SELECT count(*) FROM {classes}").fetchall()
    rows = f"""
        SELECT alive.id, p.cluster, coalesce(c.class, -1) AS class, alive."{embedding}" AS vector
        FROM alive JOIN {placed} AS p ON p.id = alive.id LEFT JOIN {classes} AS c ON c.word = alive."{label}"
        ORDER BY p.cluster, alive.uid"""
    for ids, own, vectors in _graphs(stream(db, rows)):
        yield ids, diffused_doubt(vectors, own, labels)
    for name in (classes, placed):
        db.execute(f"DROP TABLE {name}")


def diffused_doubt(vectors: Tensor, own: Array, labels: int) -> Array:
    """Return the doubt of each of n samples that make one graph, float64 [n].

    vectors: of unit length, float32 [n, D]. own: the class of each label, int64 [n], -1 for none. labels: K.
    """
    from scipy.sparse import diags_array

    if labels < 2:  # no label contradicts another
        return np.where(own < 0, 1.0, 0.0)
    graph = _neighbours(vectors, max(1, len(own) // SHARE))
    graph = graph.maximum(graph.T)
    degree = np.asarray(graph.sum(axis=1)).ravel()
    scale = diags_array(1 / np.sqrt(np.where(degree > 0, degree, 1.0)))
    similar = (scale @ graph @ scale).tocsr()
    one_hot = np.zeros((len(own), labels))
    one_hot[np.flatnonzero(own >= 0), own[own >= 0]] = 1
    reached = np.maximum(_solve(similar, one_hot) - one_hot, 0)
    total = reached.sum(axis=1, keepdims=True)
    posterior = np.where(total > 0, reached / np.where(total > 0, total, 1.0), 1 / labels)
    return np.where(own < 0, 1.0, cross_entropy(one_hot, posterior))


def _neighbours(vectors: Tensor, nearest: int) -> Any:
    """Return the cosines of each vector with its nearest ones as a sparse matrix [n, n]; without itself."""
    from scipy.sparse import csr_array

    count = len(vectors)
    nearest = min(nearest, count - 1)
    places, cosines = np.zeros((count, nearest), np.int32), np.zeros((count, nearest), np.float32)
    for start in range(0, count if nearest else 0, COMPARED):
        some = vectors[start : start + COMPARED] @ vectors.T
        some[range(len(some)), range(start, start + len(some))] = -2.0
        found = some.topk(nearest, dim=1)
        places[start : start + len(some)] = found.indices.numpy()
        cosines[start : start + len(some)] = found.values.clamp_min(0).numpy()
    ends = np.arange(count + 1) * nearest
    return csr_array((cosines.ravel().astype(np.float64), places.ravel(), ends), shape=(count, count))


def _solve(similar: Any, one_hot: Array) -> Array:
    """Return (I - alpha S)^-1 Y, float64 [n, K], by `STEPS` steps of conjugate gradients for each column.

    Our own loop, because scipy solves one column at a time, and a product with all columns is several times faster.
    """
    found, residual = np.zeros_like(one_hot), one_hot.copy()
    direction, norm = residual.copy(), (residual**2).sum(axis=0)
    for _ in range(STEPS):
        product = direction - ALPHA * (similar @ direction)
        curvature = (direction * product).sum(axis=0)
        step = np.divide(norm, curvature, out=np.zeros_like(norm), where=curvature > 0)
        found += step * direction
        residual -= step * product
        before, norm = norm, (residual**2).sum(axis=0)
        direction = residual + np.divide(norm, before, out=np.zeros_like(norm), where=before > 0) * direction
    return found


def _place(db: duckdb.DuckDBPyConnection, into: str, embedding: str, seed: int) -> None:
    """Insert the cluster of every sample into a table: one cluster for up to `BLOCK` samples."""
    ((count,),) = db.execute("SELECT count(*) FROM alive").fetchall()
    if count <= BLOCK:
        db.execute(f"INSERT INTO {into} SELECT id, 0 FROM alive")
        return
    import torch

    from curation.models.kmeans import assign, find_centres

    clusters, luck = -(-2 * count // BLOCK), hash_uniform(seed, "label_diffusion")
    some = f'SELECT alive."{embedding}" AS vector FROM alive ORDER BY {luck}, uid LIMIT {SAMPLE * clusters}'
    sample = torch.cat([matrix(batch.column(0)) for batch in stream(db, some)])
    centres = find_centres(sample, clusters, seed=seed)
    for batch in stream(db, f'SELECT alive.id, alive."{embedding}" AS vector FROM alive'):
        nearest = assign(matrix(batch.column(1)), centres)[0].numpy().astype(np.int32)
        insert(db, into, pa.table({"id": batch.column(0), "cluster": nearest}))


def _graphs(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[Array, Array, Tensor]]:
    """Yield (ids, classes, vectors) of each cluster; of one with more than `BLOCK` samples, part by part."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        clusters = batch.column(1).to_numpy()
        bounds = [0, *(np.flatnonzero(np.diff(clusters)) + 1).tolist(), len(clusters)]
        for start, stop in pairwise(bounds):
            piece = batch.slice(start, stop - start)
            if held and held[0].column(1)[0] != piece.column(1)[0]:
                yield _joined(held)
                held = []
            while piece.num_rows:
                room = BLOCK - sum(one.num_rows for one in held)
                held.append(piece.slice(0, room))
                piece = piece.slice(held[-1].num_rows)
                if held[-1].num_rows == room:
                    yield _joined(held)
                    held = []
    if held:
        yield _joined(held)


def _joined(pieces: list[pa.RecordBatch]) -> tuple[Array, Array, Tensor]:
    table = pa.Table.from_batches(pieces).combine_chunks()
    return table.column(0).to_numpy(), table.column(2).to_numpy(), matrix(table.column(3).combine_chunks())
