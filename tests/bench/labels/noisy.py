"""Pictures with votes, their first labels, and the budget of a label cleaning."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curation.shards.images import DecodeLimits, decode
from curation.shards.tar_writer import TarWriter

Array = np.ndarray[Any, Any]
FACTOR = 3  # the budget is this many times the number of wrong labels, and at most one answer a sample: 2109.00574


class Pictures(NamedTuple):
    """N pictures: uids, the bytes of their files, the extension, and what people answer, votes [N, K]."""

    uids: list[str]
    files: list[bytes]
    extensions: list[str]
    votes: Array

    @property
    def truth(self) -> Array:
        """The class with most votes, the first of equals, int64 [N]."""
        found: Array = self.votes.argmax(axis=1)
        return found

    def take(self, rows: Array) -> Pictures:
        """Return some of the pictures, in the order of `rows`."""
        places = rows.tolist()
        columns = ([column[row] for row in places] for column in (self.uids, self.files, self.extensions))
        return Pictures(*columns, self.votes[rows])

    def pixels(self, size: int) -> Array:
        """Decode the pictures, uint8 RGB [N, size, size, 3]."""
        return np.stack([decode(one, DecodeLimits(), size) for one in self.files])


class Noisy(NamedTuple):
    """Pictures with their first labels, int64 [N], and the number of answers to pay for."""

    pictures: Pictures
    classes: Sequence[str]
    labels: Array
    budget: int

    @property
    def truth(self) -> Array:
        return self.pictures.truth

    @property
    def wrong(self) -> int:
        """Number of first labels that are not the truth."""
        return int((self.labels != self.truth).sum())


def noisy(pictures: Pictures, classes: Sequence[str], labels: Array) -> Noisy:
    """Return the pictures with these first labels, and the budget of the paper."""
    wrong = int((labels != pictures.truth).sum())
    return Noisy(pictures, classes, labels, min(FACTOR * wrong, len(labels)))


def drawn(weights: Array, random: np.random.Generator) -> Array:
    """Draw a class a row, with a probability proportional to its weight, int64 [N]."""
    ends = weights.cumsum(axis=1)
    found: Array = (ends <= random.random((len(ends), 1)) * ends[:, -1:]).sum(axis=1)
    return found


def write_shard(data: Noisy, path: Path) -> None:
    """Write the pictures with their first labels as a shard; the label is the field `label` of the json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    writer = TarWriter(file)
    pictures = data.pictures
    for row, (uid, label) in enumerate(zip(pictures.uids, data.labels.tolist(), strict=True)):
        writer.add(f"{uid}.{pictures.extensions[row]}", pictures.files[row])
        writer.add(f"{uid}.json", json.dumps({"label": data.classes[label]}).encode())
        writer.add(f"{uid}.txt", b"a picture")
    writer.close()
    path.write_bytes(file.getvalue())
