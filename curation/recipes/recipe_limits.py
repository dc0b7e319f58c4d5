"""The section `limits` of a recipe, which also applies wherever a snapshot's images are decoded later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from curation.core.errors import LedgerError
from curation.core.types import FORMATS
from curation.ledger.documents import RESTORE
from curation.recipes.sections import Section
from curation.shards.images import DecodeLimits


def _check_formats(value: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [name for name in value if name not in FORMATS]:
        raise ValueError(f"{unknown[0]!r} is not a supported format; supported are {', '.join(FORMATS)}")
    return value


class Limits(Section):
    """Limits on an image, checked in its header before it is decoded, and how it is decoded."""

    max_bytes: int = Field(default=DecodeLimits.max_bytes, ge=1, description="bytes of an encoded image, at most")
    max_pixels: int = Field(
        default=DecodeLimits.max_pixels, ge=1, description="pixels of an image, at most, by its header"
    )
    formats: Annotated[tuple[str, ...], AfterValidator(_check_formats)] = Field(
        default=DecodeLimits.formats, description="formats that are decoded; images of others are quarantined"
    )
    background: Literal["white", "black", "drop_alpha"] = Field(
        default=DecodeLimits.background,
        description="colour behind transparent pixels; `drop_alpha` shows their hidden colours",
    )
    auto_orient: bool = Field(
        default=DecodeLimits.auto_orient,
        description="rotate JPEG, PNG, WebP and AVIF by their EXIF orientation; TIFF is always rotated",
    )
    max_quarantined: float = Field(
        default=0.05, ge=0, le=1, description="share of samples, and of shards, above which a run makes no snapshot"
    )

    def of_decoding(self) -> DecodeLimits:
        """Return the limits that decide pixels and are part of fingerprints: all but `max_quarantined`."""
        return DecodeLimits(**self.model_dump(exclude={"max_quarantined"}))


def limits_of(document: Mapping[str, Any]) -> DecodeLimits:
    """Return the decoding limits of a snapshot's recipe as written, with defaults for missing keys.

    Raises `LedgerError` for limits that no recipe can have.
    """
    try:
        return Limits.model_validate(document.get("limits") or {}).of_decoding()
    except ValidationError:
        text = "the snapshot is damaged: field `recipe.limits` is invalid"
        raise LedgerError(text, fix=RESTORE) from None
