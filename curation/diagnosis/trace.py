"""Trace failures to training data: a pass over gradients that are scored once, and another one for the first question.

A first pass draws at most 4,096 training samples by a hash of their uids, for the Fisher information; they serve all
sets of failures (`drawn_gradients`). Another pass computes r(z) of every sample: one matrix product. Memory: the drawn
rows and one unit, whatever the number of units.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn.functional import normalize

from curation.core.errors import UserError
from curation.diagnosis.first_samples import FirstSamples
from curation.diagnosis.trace_methods import LOSS, TRACE_METHODS, TraceMethod, scaled
from curation.gradients import MOST_ROWS, FisherSystem

Floats = npt.NDArray[np.float32]
PREDICTION_DAMPING = 1e-2  # share of the trace of F, for predictions and pulls
BLOCK = 128  # rows that are converted to float64 at once: 2 MB of 2,000 numbers, which stay in the cache

#: r(z) of every sample.
TRACE_SCHEMA = pa.schema([("uid", pa.string()), ("score", pa.float32())])


@dataclass(frozen=True)
class GradientRows:
    """Samples of one unit: uids, loss `[N]`, and gradients `[N, D]` at the model's weights, then at each checkpoint."""

    uids: Sequence[str]
    loss: Tensor
    gradients: Sequence[Tensor]


@dataclass(frozen=True)
class Trace:
    """The result: the first uids with their scores, in order, and how many samples were ranked.

    predicted: the change of the failures' mean loss in nats, to first order, if the first uids were left out of the
    training: (1/N) sum of g_F' (F + c I)^-1 g_z over them. Source: influence functions (1703.04730), equation 2, with
    the Fisher information for the Hessian. pulls: of each first sample (row) on each failure (column),
    -g_f' (F + c I)^-1 g_z at the model's own weights, g_f and g_z scaled to length 1, float32 `[count, F]`: it says
    which failures a sample explains.
    """

    uids: list[str]
    scores: list[float]
    samples: int
    predicted: float
    pulls: Tensor


Units = Callable[[], Iterable[GradientRows]]  # a pass over the data


def trace(
    units: Units, failures: Sequence[Tensor], method: str = "dual_fisher", *, count: int = 100, last: int = 0,
    seed: int = 0, drawn: Sequence[Tensor] | None = None, write: Callable[[pa.Table], None] = lambda table: None,
) -> Trace:  # fmt: skip
    """Rank training samples by how much they pulled the model towards the failures, ties by uid.

    units: each call yields all training samples. failures: gradients `[F, D]` at the model's weights, then at each
    checkpoint, with the expected answers. method: of `TRACE_METHODS`, or `loss`. Over several checkpoints, scores are
    divided by their standard deviation over the drawn samples and added; `dot` adds them as they are (TracIn). last:
    columns of the last layer. drawn: the result of `draw` for these units, which costs a pass where it is None. write:
    called with the scores of each unit (`TRACE_SCHEMA`). Raises `UserError` without samples or failures.
    """
    if not failures or not len(failures[0]):
        raise UserError("there are no failures to trace", fix="name failures of this model: curate diagnose failures")
    drawn = draw(units(), seed) if drawn is None else drawn
    score = _loss if method == LOSS else _scorer(method, failures, drawn, last)
    system = FisherSystem(drawn[0], PREDICTION_DAMPING)
    way = system.solve(failures[0].mean(0)).float()
    first, samples = FirstSamples[Tensor](count), 0
    for rows in units():
        found, own = score(rows), rows.gradients[0]
        write(pa.table([pa.array(rows.uids, pa.string()), pa.array(found)], schema=TRACE_SCHEMA))
        first.add(found, rows.uids, partial(_row, own))
        samples += len(found)
    top = first.ranked()
    gradients = torch.stack([one.item for one in top])
    predicted = float((gradients @ way).sum()) / max(1, samples)
    pulls = -(normalize(gradients, dim=1) @ system.solve(normalize(failures[0], dim=1).T).float())
    return Trace([one.uid for one in top], [one.score for one in top], samples, predicted, pulls)


def _row(gradients: Tensor, place: int) -> Tensor:
    return gradients[place].clone()  # a view would keep the unit alive


def _loss(rows: GradientRows) -> Floats:
    return rows.loss.float().numpy()


def _scorer(
    name: str, failures: Sequence[Tensor], drawn: Sequence[Tensor], last: int
) -> Callable[[GradientRows], Floats]:
    method = TRACE_METHODS[name]
    ways: list[Tensor] = []
    for failed, sample in zip(failures, drawn, strict=True):
        own = scaled(sample, method, last)
        way = method.direction(scaled(failed, method, last), own)
        spread = (own @ way).std() if len(failures) > 1 and name != "dot" else torch.ones(())
        ways.append((way / spread.clamp_min(torch.finfo(torch.float32).tiny)).double())

    def score(rows: GradientRows) -> Floats:
        parts = [_products(own, way, method, last) for own, way in zip(rows.gradients, ways, strict=True)]
        found: Floats = -torch.stack(parts).sum(0).float().numpy()
        return found

    return score


def _products(rows: Tensor, way: Tensor, method: TraceMethod, last: int) -> Tensor:
    """Return the products of gradients `[N, D]` with a direction `[D]`, both as the method reads them, float64 `[N]`.

    float32 would round differently in a unit of another size, and equal samples would be no ties. Only `BLOCK` rows are
    converted at once, into the same memory, and lengths divide the products rather than the rows. einsum stays on one
    thread: units are decoded on the others meanwhile, and threads that wait for each other took four times as long.
    """
    read, to = (rows[:, -last:] if method.last_layer else rows).numpy(), way.numpy()
    found, wide = np.empty(len(read)), np.empty((BLOCK, len(to)))
    for start in range(0, len(read), BLOCK):
        some = read[start : start + BLOCK]
        block, part = wide[: len(some)], found[start : start + BLOCK]
        np.copyto(block, some)
        np.einsum("ij,j->i", block, to, out=part)
        if method.unit:
            part /= np.maximum(np.sqrt(np.einsum("ij,ij->i", block, block)), 1e-12)
    return torch.from_numpy(found)


def draw(units: Iterable[GradientRows], seed: int) -> list[Tensor]:
    """Draw `MOST_ROWS` samples by a hash of seed and uid, in any order of units: a matrix for each checkpoint."""
    heap: list[tuple[int, str, list[Tensor]]] = []
    for rows in units:
        for place, uid in enumerate(rows.uids):
            rank = -int.from_bytes(blake2b(f"{seed} {uid}".encode(), digest_size=8).digest())
            if len(heap) == MOST_ROWS and rank <= heap[0][0]:
                continue
            entry = (rank, uid, [one[place].clone() for one in rows.gradients])  # a view would keep the unit alive
            heapq.heappushpop(heap, entry) if len(heap) == MOST_ROWS else heapq.heappush(heap, entry)
    if not heap:
        raise UserError("no sample of the data has a gradient", fix="name data with the labels of the model")
    return [torch.stack(column) for column in zip(*(rows for *_, rows in sorted(heap)), strict=True)]
