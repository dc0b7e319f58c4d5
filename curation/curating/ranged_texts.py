"""Captions and json of single samples, read by range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from curation.core.errors import ImageError, ReasonError
from curation.core.parallel import map_ordered
from curation.review.samples import read_sample
from curation.shards import contents
from curation.shards.sample_reader import SampleReader
from curation.storage.store import Store

THREADS = 8  # samples read at once


class SampleTexts(NamedTuple):
    """The caption of a sample, "" without one, and its json, empty where it is none."""

    caption: str
    fields: dict[str, Any]


def read_texts(store: Store, rows: Sequence[Mapping[str, Any]]) -> list[SampleTexts]:
    """Return the texts of samples; a sample that is gone or changed has none.

    rows: of each sample, where it is (`ranged_pictures.SOURCE`). Cost: one ranged read a sample.
    """
    with SampleReader(store) as reader:

        def one(row: Mapping[str, Any]) -> SampleTexts:
            try:
                parts = {part.extension: part.data for part in read_sample(reader, row).parts}
            except ReasonError:
                return SampleTexts("", {})
            return _texts(parts)

        return list(map_ordered(one, rows, THREADS))


def _texts(parts: Mapping[str, bytes]) -> SampleTexts:
    try:
        fields = contents.metadata(parts.get("json", b"{}"))
    except ImageError:
        fields = {}
    try:
        return SampleTexts(contents.caption(parts, fields), fields)
    except ImageError:
        return SampleTexts("", fields)
