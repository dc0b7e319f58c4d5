"""Ranking by gradients: against the formulas, against retraining without each sample, and whatever the units are."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from curation.core.errors import UserError
from curation.diagnosis.trace import PREDICTION_DAMPING, GradientRows, trace
from curation.diagnosis.trace_methods import DAMPING, DIAGONAL, LOSS, TRACE_METHODS
from jobs.commands.diagnose.trace import METHODS

N, D, FAILED = 40, 12, 5


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


ROWS, OTHER, FAILURES, OTHER_FAILURES = (
    random(n, D, seed=seed) for seed, n in ((1, N), (2, N), (3, FAILED), (4, FAILED))
)
UIDS = [f"{number:03}" for number in range(N)]
LOSSES = random(N, seed=5).abs()


def units(*matrices: Tensor, pieces: int = 3, losses: Tensor = LOSSES) -> Iterable[GradientRows]:
    for places in np.array_split(np.arange(N), pieces):
        yield GradientRows([UIDS[place] for place in places], losses[places], [rows[places] for rows in matrices])


def scores_of(method: str, *, last: int = 3, pieces: int = 3) -> dict[str, float]:
    tables: list[pa.Table] = []
    trace(lambda: units(ROWS, pieces=pieces), [FAILURES], method, last=last, write=tables.append)
    table = pa.concat_tables(tables)
    return dict(zip(table.column("uid").to_pylist(), table.column("score").to_pylist(), strict=True))


def dense(method: str) -> Tensor:
    """The definition of each method."""
    rows, failed = ROWS.double(), FAILURES.double()
    if method in ("dual_fisher", "cosine"):
        rows, failed = normalize(rows, dim=1), normalize(failed, dim=1)
    if method == "last_layer":
        rows, failed = rows[:, -3:], failed[:, -3:]
    fisher = rows.T @ rows / N
    if method.startswith("dual_fisher"):
        fisher += DAMPING * fisher.trace() * torch.eye(D)
        return -(rows @ torch.linalg.solve(fisher, failed.mean(0)))
    if method == "diagonal_fisher":
        diagonal = fisher.diagonal()
        return -(rows @ (failed.mean(0) / (diagonal + DIAGONAL * diagonal.mean())))
    return LOSSES.double() if method == LOSS else -(rows @ failed.mean(0))


@pytest.mark.parametrize("method", [*TRACE_METHODS, LOSS])
def test_scores_are_those_of_the_definition_however_units_are_cut(method: str) -> None:
    expected = dict(zip(UIDS, dense(method).tolist(), strict=True))
    for pieces in (1, 3, 7):
        assert scores_of(method, pieces=pieces) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_the_command_offers_every_method() -> None:
    assert (*TRACE_METHODS, LOSS) == METHODS


def test_the_first_are_those_with_the_highest_score_ties_by_uid() -> None:
    found = trace(lambda: units(ROWS), [FAILURES], "cosine", count=7)
    order = sorted(zip(dense("cosine").tolist(), UIDS, strict=True), key=lambda pair: (-pair[0], pair[1]))
    assert found.uids == [uid for _, uid in order[:7]] and found.samples == N
    assert found.scores == pytest.approx([value for value, _ in order[:7]], rel=1e-4)
    same = trace(lambda: units(ROWS[:1].expand(N, D).clone()), [FAILURES], "dot", count=4)
    assert same.uids == UIDS[:4]


def test_pulls_say_which_failures_a_sample_explains() -> None:
    found = trace(lambda: units(ROWS), [FAILURES], "dot", count=4)
    fisher = ROWS.T @ ROWS / N
    fisher += PREDICTION_DAMPING * fisher.trace() * torch.eye(D)
    first = normalize(ROWS[[UIDS.index(uid) for uid in found.uids]], dim=1)
    expected = -(first @ torch.linalg.solve(fisher, normalize(FAILURES, dim=1).T))
    torch.testing.assert_close(found.pulls, expected, rtol=1e-3, atol=1e-4)


def test_checkpoints_are_added_tracin_as_they_are_others_by_their_spread() -> None:
    def total(method: str) -> list[float]:
        tables: list[pa.Table] = []
        trace(lambda: units(ROWS, OTHER), [FAILURES, OTHER_FAILURES], method, write=tables.append)
        return pa.concat_tables(tables).column("score").to_pylist()

    plain = [-(rows @ failed.mean(0)) for rows, failed in ((ROWS, FAILURES), (OTHER, OTHER_FAILURES))]
    assert total("dot") == pytest.approx((plain[0] + plain[1]).tolist(), rel=1e-4, abs=1e-5)
    cosines = [
        -(normalize(rows, dim=1) @ normalize(failed, dim=1).mean(0))
        for rows, failed in ((ROWS, FAILURES), (OTHER, OTHER_FAILURES))
    ]
    expected = sum(one / one.std() for one in cosines)
    assert total("cosine") == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-4)  # type: ignore[union-attr]


def test_nothing_to_trace_is_one_line() -> None:
    with pytest.raises(UserError, match="no failures to trace"):
        trace(lambda: units(ROWS), [ROWS[:0]])
    with pytest.raises(UserError, match="no sample of the data has a gradient"):
        trace(lambda: iter(()), [FAILURES])


def logistic(points: Tensor, targets: Tensor, keep: Tensor) -> Tensor:
    """Return the weights of a logistic regression on some points, with a small penalty, to convergence (Newton)."""
    weights = torch.zeros(points.shape[1], dtype=torch.float64)
    x, y = points[keep], targets[keep]
    for _ in range(30):
        p = torch.sigmoid(x @ weights)
        gradient = x.T @ (p - y) / len(points) + 1e-3 * weights
        hessian = (x * (p * (1 - p))[:, None]).T @ x / len(points) + 1e-3 * torch.eye(x.shape[1])
        weights = weights - torch.linalg.solve(hessian, gradient)
    return weights


@pytest.mark.slow
def test_the_prediction_is_what_retraining_without_a_sample_shows() -> None:
    """Leave-one-out retraining of 50 weights: the ranks agree, and the predicted change has the size of the real one.

    The labels are drawn from the model, so the Fisher information is the Hessian in expectation.
    """
    from scipy.stats import spearmanr

    n, d = 400, 50
    points = random(n, d, seed=7).double() / d**0.5
    truth = random(d, seed=8).double()
    targets = (torch.rand(n, generator=torch.Generator().manual_seed(9)) < torch.sigmoid(points @ truth)).double()
    asked, answers = random(20, d, seed=10).double() / d**0.5, torch.ones(20, dtype=torch.float64)
    everything = torch.ones(n, dtype=torch.bool)
    weights = logistic(points, targets, everything)

    def loss(at: Tensor) -> float:
        return float(torch.nn.functional.binary_cross_entropy_with_logits(asked @ at, answers))

    def gradients(x: Tensor, y: Tensor) -> Tensor:
        return ((torch.sigmoid(x @ weights) - y)[:, None] * x).float()

    rows = GradientRows([f"{number:03}" for number in range(n)], torch.zeros(n), [gradients(points, targets)])
    tables: list[pa.Table] = []
    found = trace(lambda: [rows], [gradients(asked, answers)], "dual_fisher_unscaled", count=1, write=tables.append)
    scores = np.array(tables[0].column("score").to_pylist())
    some = np.random.default_rng(0).choice(n, 60, replace=False)
    real = []
    for place in some:
        keep = everything.clone()
        keep[place] = False
        real.append(loss(logistic(points, targets, keep)) - loss(weights))
    assert spearmanr(-scores[some], real).statistic > 0.9  # a harmful sample's removal lowers the loss
    worst = everything.clone()
    worst[int(found.uids[0])] = False
    change = loss(logistic(points, targets, worst)) - loss(weights)
    assert found.predicted < 0 and change < 0
    assert 0.4 < found.predicted / change < 2.5
