"""Labelled pictures in memory: a part of the failures, and samples that the model is right about.

Few samples are tuned on and judged: the failures, and a draw of what was right. The draw follows from hashes of uids,
so that it does not depend on units, and more data replace few of its samples.
Memory: 12 kB a picture of 64 pixels, 150 kB of 224.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from curation.core.errors import UserError
from curation.curating.ranged_pictures import read_pictures
from curation.diagnosis.failures import Failures
from curation.diagnosis.subject import CONTENT, Subject, SubjectScores
from curation.models.architecture import preprocess_for
from curation.storage.store import Store

Rows = Sequence[Mapping[str, Any]]  # of samples: uid, expected, and where each is (`ranged_pictures.SOURCE`)


@dataclass(frozen=True)
class LabelledPictures:
    """N samples: uids, pixels uint8 `[N, S, S, 3]`, and targets int64 `[N]`, indices into the subject's classes."""

    uids: Sequence[str]
    pixels: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.uids)

    def take(self, rows: Tensor | Sequence[int]) -> LabelledPictures:
        """Return the samples at these rows."""
        places = torch.as_tensor(rows, dtype=torch.int64)
        return LabelledPictures([self.uids[row] for row in places.tolist()], self.pixels[places], self.targets[places])

    def join(self, other: LabelledPictures) -> LabelledPictures:
        """Return these samples and then the others."""
        pixels, targets = torch.cat([self.pixels, other.pixels]), torch.cat([self.targets, other.targets])
        return LabelledPictures([*self.uids, *other.uids], pixels, targets)


def expect_own(subject: Subject, failures: Failures) -> None:
    """Raise `UserError` unless the failures are those of this model."""
    if failures.about["sha256"] != subject.weights.sha256:
        text = f"the failures are of the model {failures.about['sha256'][:16]}, not of {subject.weights.sha256[:16]}"
        raise UserError(text, fix="name the model that failed, or find the failures of this one")


def labelled_pictures(
    subject: Subject, rows: Rows, scored: SubjectScores, store: Store | None = None
) -> tuple[LabelledPictures, Counter[str]]:
    """Read the pictures of rows, whose `expected` is a class; also count what could not be read, by reason.

    store: where the samples are; by default that of the scored data.
    """
    work = scored.units.work
    place = store or work.corpus.store()
    pixels, unread = read_pictures(place, rows, preprocess_for(subject.model), work.recipe.decoding)
    sound = [place for place in range(len(rows)) if place not in unread]
    classes = {name: number for number, name in enumerate(subject.classes)}
    targets = torch.tensor([classes[rows[place]["expected"]] for place in sound], dtype=torch.int64)
    found = torch.from_numpy(pixels[np.array(sound, np.int64)])
    return LabelledPictures([rows[place]["uid"] for place in sound], found, targets), Counter(unread.values())


def draw_right(
    subject: Subject, scored: SubjectScores, count: int, *, seed: int = 0, without: Callable[[str], bool] | None = None
) -> Rows:
    """Draw at most `count` samples whose label is the guess, by a hash of seed and uid, in order of uid.

    without: says of a uid whether it is left out. Cost: one pass over the predictions, and memory for the drawn rows.
    """

    def candidates() -> Iterator[dict[str, Any]]:
        for table in scored.tables(["prediction", "label"]):
            guess = pc.struct_field(table.column("prediction"), "guess")
            right = table.filter(pc.fill_null(pc.equal(guess, table.column("label")), False))
            right = right.append_column("expected", right.column("label")).drop_columns(["prediction", "label"])
            yield from (row for row in right.to_pylist() if without is None or not without(row["uid"]))

    def place(row: Mapping[str, Any]) -> tuple[bytes, str]:
        return blake2b(f"right {seed} {row['uid']}".encode(), digest_size=8).digest(), row["uid"]

    return sorted(heapq.nsmallest(count, candidates(), key=place), key=lambda row: str(row["uid"]))


def rows_of(scored: SubjectScores, uids: set[str]) -> Rows:
    """Return the rows of these uids with captions, and labels as `expected`, in order of uid.

    Cost: one pass over uids, captions and labels.
    """
    wanted, found = pa.array(sorted(uids), pa.string()), list[dict[str, Any]]()
    for table in scored.tables(["label"], ["caption"]):
        some = table.filter(pc.is_in(table.column("uid"), wanted))
        found += some.rename_columns({"label": "expected"}).to_pylist()
    return sorted(found, key=lambda row: str(row["uid"]))


def unseen(rows: Rows, scored: SubjectScores) -> Rows:
    """Return the rows whose picture, by its content hash, is not in the scored data.

    Cost: one pass over a column of the index.
    """
    asked = {row[CONTENT] for row in rows}
    known = {text for table in scored.tables([]) for text in table.column(CONTENT).to_pylist() if text in asked}
    return [row for row in rows if row[CONTENT] not in known]
