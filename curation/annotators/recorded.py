"""Votes that people gave earlier, replayed one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from curation.annotators.annotator import Ask, Question, Reply
from curation.annotators.attribution import ABOUT, reviewer_of
from curation.annotators.vote_tables import read_votes
from curation.core.errors import ReasonError


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Votes of a table, each used once: the n-th answer to an item is its n-th vote.

    When to use: several people have voted on each sample already. `votes`: URL of a Parquet table (`vote_tables`).
    Votes that are only counted come in an order that `seed` and the uid determine; a list of names keeps its own order.
    Cost: the table in memory, and 20 us an answer.
    Example: recorded: {votes: s3://pool/votes.parquet}
    """

    votes: str
    seed: int = 0

    about: ClassVar[str] = ABOUT["recorded"]

    def open(self, classes: Sequence[str], uids: Sequence[str]) -> Ask:
        table = read_votes(self.votes, "votes", classes, uids)

        def ask(question: Question) -> Reply:
            table.expect(question.uid)
            names = table.ordered.get(question.uid)
            if names is None:
                counts = table.numbers[question.uid]
                if (counts != np.floor(counts)).any():
                    raise ReasonError("negative_votes", "recorded votes are whole numbers")
                names = table.ordered[question.uid] = self._shuffled(question.uid, counts.astype(np.int64), classes)
            if question.n > len(names):
                raise ReasonError("votes_exhausted", f"all {len(names)} votes were used, and no class is ahead")
            return Reply(reviewer_of("recorded", question.n), names[question.n - 1])

        return ask

    def _shuffled(self, uid: str, counts: npt.NDArray[np.int64], classes: Sequence[str]) -> list[str]:
        """Return each vote as a class name, in an order that is a function of seed and uid."""
        seed = int.from_bytes(sha256(f"{self.seed}\0{uid}".encode()).digest()[:8], "big")
        order = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(classes)), counts))
        return [classes[place] for place in order.tolist()]
