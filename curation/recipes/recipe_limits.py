"""The section `limits` of a recipe. A module of its own, since every reader of a snapshot decodes by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from curation.core.errors import LedgerError
from curation.core.types import FORMATS
from curation.ledger.documents import RESTORE
from curation.recipes.sections import Section
from curation.shards.images import DecodeLimits


def _formats(value: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [name for name in value if name not in FORMATS]:
        raise ValueError(f"{unknown[0]!r} is not a format that is decoded; those are {', '.join(FORMATS)}")
    return value


class Limits(Section):
    """What an image may be before it is decoded, and how it is decoded; defaults are those of `DecodeLimits`."""

    max_bytes: int = Field(default=DecodeLimits.max_bytes, ge=1)
    max_pixels: int = Field(default=DecodeLimits.max_pixels, ge=1)
    formats: Annotated[tuple[str, ...], AfterValidator(_formats)] = DecodeLimits.formats
    background: Literal["white", "black", "drop_alpha"] = DecodeLimits.background  # what alpha is flattened onto
    auto_orient: bool = DecodeLimits.auto_orient  # turn JPEG, PNG, WebP, AVIF as they say; TIFF always is
    # Not of an image: the share of samples, and of shards, that may be quarantined before a run makes no snapshot.
    max_quarantined: float = Field(default=0.05, ge=0, le=1)

    def of_decoding(self) -> DecodeLimits:
        """Those that decide what a picture is; the others are in no fingerprint."""
        return DecodeLimits(**self.model_dump(exclude={"max_quarantined"}))


def limits_of(document: Mapping[str, Any]) -> DecodeLimits:
    """What a snapshot's recipe, as it was written, says of pictures; the defaults where it says nothing. Raises
    `LedgerError` for limits that no recipe can have."""
    try:
        return Limits.model_validate(document.get("limits") or {}).of_decoding()
    except ValidationError:
        text = "the snapshot is damaged: field `recipe.limits` is invalid"
        raise LedgerError(text, fix=RESTORE) from None
