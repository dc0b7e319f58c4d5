"""Simulated annotators: labels drawn from a distribution for each sample, or from a confusion matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar

import numpy as np

from curation.annotators.annotator import Ask, Question, Reply
from curation.annotators.attribution import ABOUT, reviewer_of
from curation.annotators.vote_tables import Numbers, labels_of, read_columns, read_votes
from curation.core.errors import NotFoundError, ReasonError, UserError
from curation.storage.parquet import read_parquet
from curation.storage.store import open_object

_FIX = "write a Parquet table with the columns label and one for each class; a row is a true class"


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """Labels drawn at random with replacement: the n-th answer to an item is a function of seed, uid and n.

    When to use: benches and demos, where the truth is known. Two forms: `distribution`, the URL of a table with votes
    or probabilities of each sample (`vote_tables`); or `confusion`, the URL of a table with the probabilities of the
    answers to each true class (columns: label, one a class), with `truth`, the URL of a table of uid and label.
    Cost: the tables in memory, and 10 us an answer. Source: the simulations of 2109.00574, section 4.
    Example: simulated: {distribution: votes.parquet, seed: 1}
    """

    distribution: str = ""
    confusion: str = ""
    truth: str = ""
    seed: int = 0

    about: ClassVar[str] = ABOUT["simulated"]

    def __post_init__(self) -> None:
        if bool(self.distribution) == bool(self.confusion) or bool(self.confusion) != bool(self.truth):
            raise ValueError("name either `distribution`, or both `confusion` and `truth`")

    def open(self, classes: Sequence[str], uids: Sequence[str]) -> Ask:
        weights = self._by_sample(classes, uids) if self.distribution else self._by_truth(classes)

        def ask(question: Question) -> Reply:
            cumulated = np.cumsum(weights(question.uid))
            place = np.searchsorted(cumulated, self._uniform(question) * cumulated[-1], side="right")
            return Reply(reviewer_of("simulated", question.n), classes[min(int(place), len(classes) - 1)])

        return ask

    def _uniform(self, question: Question) -> float:
        """Return a number in [0, 1) from seed, uid and n."""
        text = f"{self.seed}\0{question.uid}\0{question.n}"
        return (int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 11) / (1 << 53)

    def _by_sample(self, classes: Sequence[str], uids: Sequence[str]) -> Callable[[str], Numbers]:
        table = read_votes(self.distribution, "distribution", classes, uids)

        def weights(uid: str) -> Numbers:
            table.expect(uid)
            if uid in table.ordered:
                names = table.ordered[uid]
                table.numbers[uid] = np.array([names.count(name) for name in classes], np.float64)
            return table.numbers[uid]

        return weights

    def _by_truth(self, classes: Sequence[str]) -> Callable[[str], Numbers]:
        truth = labels_of(read_columns(self.truth, "truth"), "truth", self.truth)
        rows = self._matrix(classes)

        def weights(uid: str) -> Numbers:
            label = truth.get(uid)
            if label is None or label not in rows:
                raise ReasonError("no_votes", "the true class of this sample is not known")
            return rows[label]

        return weights

    def _matrix(self, classes: Sequence[str]) -> dict[str, Numbers]:
        """Return true class -> probabilities of the answers, in the order of `classes`. Raises `UserError`."""
        store, key = open_object(self.confusion)
        try:
            table = read_parquet(store, key, _FIX, ["label", *classes])
        except NotFoundError:
            raise UserError(f"confusion: {self.confusion} does not exist", fix="check the URL") from None
        found = {}
        for row in table.to_pylist():
            numbers = np.array([np.nan if row[name] is None else row[name] for name in classes], np.float64)
            if not np.isfinite(numbers).all() or (numbers < 0).any() or not numbers.sum() > 0:
                text = f"confusion: the row of the class {row['label']!r} is not a distribution"
                raise UserError(text, fix="write numbers of at least 0 with a positive sum")
            found[str(row["label"])] = numbers
        if missing := [name for name in classes if name not in found]:
            raise UserError(f"confusion: there is no row for the class {missing[0][:80]!r}", fix=_FIX)
        return found
