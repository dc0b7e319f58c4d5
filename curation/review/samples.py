"""The samples of a queue, read by range: label, caption and picture. Their bytes are untrusted.

One ranged read a sample, whatever the size of its shard (`curation.shards.sample_reader`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from curation.core.errors import ChangedError, ImageError, NotFoundError, ReasonError, TarError
from curation.core.types import IMAGE_EXTENSIONS
from curation.scorers.label_values import votes_of
from curation.shards import contents, images
from curation.shards.images import DecodeLimits
from curation.shards.sample_reader import SampleReader
from curation.shards.tar_samples import TarSample

MOST_TEXT = 4096  # characters of a label
SOURCE = ("source_key", "source_etag", "source_offset", "source_length")


class InspectedSample(NamedTuple):
    """A sample's label (None if missing), also as JSON text, and why the label or the picture can't be used, if so."""

    label: str | None
    label_json: str | None
    reason: str | None
    detail: str | None


def read_sample(reader: SampleReader, row: Mapping[str, Any]) -> TarSample:
    """Read a sample by its range. Raises `ReasonError` ("missing_sample") if it is gone or changed; `StoreError`."""
    try:
        return reader.read(*(row[name] for name in SOURCE))
    except (NotFoundError, ChangedError, TarError) as error:
        raise ReasonError("missing_sample", contents.detail_of(str(error))) from None


def picture_of(sample: TarSample) -> bytes:
    """Return the bytes of a sample's picture; empty without one."""
    return next((part.data for part in sample.parts if part.extension in IMAGE_EXTENSIONS), b"")


def inspect_sample(reader: SampleReader, row: Mapping[str, Any], field: str, limits: DecodeLimits) -> InspectedSample:
    """Read a sample's label, and decode its picture. field: of the json, with the label."""
    try:
        sample = read_sample(reader, row)
    except ReasonError as error:
        return InspectedSample(None, None, error.reason, str(error))
    label, text, detail = label_of(sample, field)
    data = picture_of(sample)
    try:
        images.expect_decodable(data, limits, images.inspect(data, limits))
    except ImageError as error:
        return InspectedSample(label, text, error.reason, contents.detail_of(str(error)))
    return InspectedSample(label, text, None if label is not None else "missing_label", detail)


def label_of(sample: TarSample, field: str) -> tuple[str | None, str | None, str | None]:
    """Return the label in a field of a sample's json, the field's JSON text, and why there is no label, if so.

    Of votes, the label is the class with most, of equals the first by name, as for the scorer `label`. The text is None
    for a field that is missing, or longer than `MOST_TEXT`.
    """
    data = next((part.data for part in sample.parts if part.extension == "json"), b"{}")
    try:
        value = contents.metadata(data).get(field)
    except ImageError as error:
        return None, None, contents.detail_of(str(error))
    text = None if value is None else json.dumps(value, ensure_ascii=False)
    text = None if text is None or len(text) > MOST_TEXT else text
    votes = votes_of(value)
    label = min(votes, key=lambda name: (-votes[name], name)) if votes else None
    if label is not None and len(label) <= MOST_TEXT:
        return label, text, None
    what = "has no value" if value in (None, "") else "is no label: a name, or votes for classes"
    return None, text, f"`{field[:80]}` of the json {what}"
