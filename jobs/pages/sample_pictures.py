"""Pictures of samples for a page, as data URIs. They are decoded and encoded again: no original byte is in a page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, NamedTuple

from curation.core.errors import ReasonError, StoreError
from curation.review.pictures import shown_picture
from curation.shards.images import DecodeLimits
from curation.shards.sample_reader import SampleReader

SIDE = 144  # pixels of a picture's longer side, at most


class Picture(NamedTuple):
    """A picture as a data URI, or why there is none."""

    uri: str
    problem: str = ""


def picture_at(reader: SampleReader, row: Mapping[str, Any], limits: DecodeLimits, side: int = SIDE) -> Picture:
    """Return the picture of a sample by its place (`review.samples.SOURCE`). Costs a ranged read and a decode."""
    try:
        shown = shown_picture(reader, row, limits, side)
    except ReasonError as error:
        return Picture("", error.reason)
    except StoreError as error:
        return Picture("", str(error))
    return Picture(f"data:{shown.media_type};base64,{b64encode(shown.data).decode()}")
