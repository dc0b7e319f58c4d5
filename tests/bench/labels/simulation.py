"""A label cleaning in memory: the product's priorities, annotators and rule of votes, without a queue on disk.

The order is one query of `DoubtfulLabels.priorities()` over the columns of the scorers' formulas; answers come from the
annotator `simulated`; `review.rounds.Rounds` asks, and `review.votes` decides when an item is answered. A queue on
disk (`curate review build`, `annotate`, `apply`) gives the same labels: tests/bench/test_labels.py compares both. It
would take 10 ms an answer, and the bench asks for two million.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.annotators import Ask, Reply
from curation.annotators.simulated import Simulated
from curation.core.distributions import cross_entropy, entropy, margin, mutual_information
from curation.filters.doubtful_labels import DoubtfulLabels
from curation.review.rounds import Rounds
from curation.storage.tables import connect

Array = np.ndarray[Any, Any]
CURRENT_VOTES = 1  # as in `curate review build`: the label given counts as a vote


class Cleaned(NamedTuple):
    """The labels after the answers, and the number of correct ones after 0, 1, 2, ... answers."""

    labels: Array
    correct: Array

    def answers_to(self, target: float) -> int | None:
        """Return the number of answers after which `target` labels were correct for the first time; None for never."""
        reached = np.flatnonzero(self.correct >= target)
        return int(reached[0]) if len(reached) else None


def columns(
    labels: Array, posterior: Array, truth: Array | None = None, *, runs: Array | None = None,
    embedding: Array | None = None,
) -> dict[str, pa.Array]:  # fmt: skip
    """Return the score columns of `doubtful_labels`, as the scorers compute and store them.

    labels, truth: classes, int64 [N]. posterior: [N, K]. runs: the distributions of several runs, [R, N, K], for
    `label_disagreement`. embedding: [N, D], for the graph.
    """
    given = np.eye(posterior.shape[1])[labels]
    numbers = {
        "label_error": cross_entropy(given, posterior),
        "label_ambiguity": entropy(posterior),
        "label_margin": margin(given, posterior),
    }
    if runs is not None:
        numbers["label_disagreement"] = mutual_information(runs)
    found = {name: pa.array(values.astype(np.float32)) for name, values in numbers.items()}
    found["label"] = pa.array([str(label) for label in labels.tolist()])
    if truth is not None:
        found["truth"] = pa.array([str(label) for label in truth.tolist()])
    if embedding is not None:
        found["embedding"] = pa.array([row.tobytes() for row in embedding.astype(np.float16)], pa.binary())
    return found


def order(uids: Sequence[str], scores: Mapping[str, pa.Array], by: Any, seed: int = 0) -> Array:
    """Return the rows by descending priority, ties by uid: the query of a review queue, int64 [N]."""
    item = DoubtfulLabels(count=len(uids), by=by, seed=seed)
    table = pa.table({"id": pa.array(range(len(uids)), pa.int64()), "uid": pa.array(uids), **scores})
    with tempfile.TemporaryDirectory() as folder, closing(connect(None, spill=Path(folder))) as db:
        db.register("rows", table)
        db.execute("CREATE TABLE alive AS SELECT * FROM rows")
        item.prepare(db)
        query = f"SELECT id FROM ({item.priorities()}) ORDER BY priority DESC, uid"
        return db.execute(query).fetchnumpy()["id"]


def by_value(uids: Sequence[str], values: Array) -> Array:
    """Return the rows by descending value, ties by uid: as `order`, for a ranking that is no filter of ours."""
    return np.lexsort((np.array(uids), -values))


def annotator(uids: Sequence[str], votes: Array, classes: Sequence[str], seed: int) -> Ask:
    """Return simulated annotators who draw their answers from `votes`, [N, K]."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "votes.parquet"
        pq.write_table(pa.table({"uid": pa.array(uids), "votes": pa.array(votes.tolist())}), path)
        return Simulated(distribution=str(path), seed=seed).open(classes, uids)


def clean(
    uids: Sequence[str], labels: Array, truth: Array, classes: Sequence[str], rows: Array, budget: int, ask: Ask
) -> Cleaned:
    """Ask about the items in the order of `rows` until the budget is spent.

    A label changes where another class is strictly ahead, as `curate review apply` replaces it.
    """
    index = {name: number for number, name in enumerate(classes)}
    current, names = labels.copy(), [classes[label] for label in labels.tolist()]
    count = int((labels == truth).sum())
    correct = [count]
    asked = [0]

    def record(item: int, reply: Reply) -> None:
        asked[0] = item

    def tick(answers: int) -> None:
        nonlocal count
        item = asked[0]
        winner = rounds.winner(item)
        label = labels[item] if winner is None else index[winner]
        count += int(label == truth[item]) - int(current[item] == truth[item])
        current[item] = label
        correct.append(count)

    rounds = Rounds(uids, names, budget, CURRENT_VOTES, record)
    rounds.ask(ask, rows.tolist(), tick=tick)
    return Cleaned(current, np.array(correct))
