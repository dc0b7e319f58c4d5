"""Types: groups stay within a side, held-out failures join the nearest group, and small sides have none."""

from __future__ import annotations

import numpy as np
import torch

from curation.diagnosis.type_matrix import FailureGroup, TunedRow
from curation.diagnosis.types import find_sides, side_document

PARTS = ["query", "query", "validation", "held_out"]


def given(*sides: tuple[str, str, int, int]) -> tuple[list[dict[str, str]], torch.Tensor]:
    """Failures of sides with a number of equal blobs each; the uid names the blob."""
    rows, vectors, random = [], [], np.random.default_rng(0)
    for expected, guess, blobs, size in sides:
        for number in range(blobs * size):
            blob = number % blobs
            uid = f"{expected}{guess}{blob}-{number:03}"
            rows.append({"uid": uid, "expected": expected, "guess": guess, "part": PARTS[number // blobs % 4]})
            vectors.append(5 * np.eye(8)[blob] + 0.1 * random.normal(size=8))
    return rows, torch.tensor(np.stack(vectors), dtype=torch.float32)


def blob_of(uid: str) -> str:
    return uid.partition("-")[0]


def test_groups_stay_within_a_side_and_are_the_planted_ones() -> None:
    rows, vectors = given(("a", "b", 3, 12), ("b", "a", 2, 20), ("c", "a", 1, 24))
    uids = [row["uid"] for row in rows]

    def measure(group: FailureGroup) -> TunedRow:
        (own,) = {blob_of(uid) for uid in group.members}
        return TunedRow(frozenset(uid for uid in uids if blob_of(uid) == own), 1.0, False, 9, 0.1)

    first, second, third = find_sides(rows, vectors, measure)
    assert (first.expected, first.guess, first.failures, len(first.groups)) == ("a", "b", 36, 3)
    assert len(second.groups) == 2 and [one.name for one in second.groups] == ["4", "5"]
    parts = {row["uid"]: row["part"] for row in rows}
    for side in (first, second):
        for group in side.groups:
            assert len({blob_of(uid) for uid in (*group.members, *group.held_out)}) == 1
            assert all(parts[uid] == "held_out" for uid in group.held_out) and group.held_out
            assert all(parts[uid] != "held_out" for uid in group.members)
    document = side_document(first)
    assert document["learnability"] == document["independence"] == 1 and not document["not_shown"]
    assert not third.groups and side_document(third)["not_shown"] == ["too few: 24 failures, 25 are needed"]
    assert "learnability" not in side_document(third)


def test_a_side_with_one_cause_is_one_type() -> None:
    rows, vectors = given(("a", "b", 2, 30))
    uids = frozenset(row["uid"] for row in rows)
    (side,) = find_sides(rows, vectors, lambda group: TunedRow(uids, 1.0, False, 9, 0.1))
    assert [one.name for one in side.groups] == ["1+2"] and len(side.merges) == 1
    document = side_document(side)
    assert document["independence"] is None and document["not_shown"] == [
        "one type is left: independence is not defined"
    ]
