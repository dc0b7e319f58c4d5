"""Pictures of single samples, read by range and decoded for a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from curation.core.errors import ReasonError
from curation.core.hashes import BLANK
from curation.core.parallel import map_ordered
from curation.review.samples import SOURCE, picture_of, read_sample
from curation.scorers.phash import VIEW, phash
from curation.shards import images
from curation.shards.images import DecodeLimits, Pixels, Preprocess
from curation.shards.sample_reader import SampleReader
from curation.storage.store import Store

__all__ = ["SOURCE", "read_hashes", "read_pictures"]

THREADS = 8  # samples read and decoded at once


def read_pictures(
    store: Store, rows: Sequence[Mapping[str, Any]], view: Preprocess, limits: DecodeLimits
) -> tuple[Pixels, dict[int, str]]:
    """Return the pictures of samples, uint8 `[N, S, S, 3]`, and row -> reason for those that can't be read (black).

    rows: of each sample, where it is: `SOURCE`. Cost: one ranged read and one decode a sample.
    """
    with SampleReader(store) as reader:

        def one(row: Mapping[str, Any]) -> Pixels | str:
            try:
                return images.decode(picture_of(read_sample(reader, row)), limits, view.size, view.mode)
            except ReasonError as error:  # an image that can't be decoded is one, too
                return error.reason

        found = list(map_ordered(one, rows, THREADS))
    black = np.zeros((view.size, view.size, 3), np.uint8)
    pixels = np.stack([black if isinstance(item, str) else item for item in found]) if found else black[None][:0]
    return pixels, {row: item for row, item in enumerate(found) if isinstance(item, str)}


def read_hashes(store: Store, rows: Sequence[Mapping[str, Any]], limits: DecodeLimits) -> list[int]:
    """Return the perceptual hash of each sample, as the scorer `phash` gives it; `BLANK` for one that can't be read."""
    pixels, unread = read_pictures(store, rows, VIEW, limits)
    return [BLANK if row in unread else int(value) for row, value in enumerate(phash(pixels))]
