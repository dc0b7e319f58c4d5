"""The origin of a sample: what its image and its texts are, as its json and the manifest say.

A sample's json says it under `tutelage.origin`; without that key the sample is real. An image that a model made or
changed outweighs a text that was replaced, so a synthetic image with a corrected label stays synthetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

PROVENANCE = "tutelage"  # the key of a written sample's json that says where the sample is from

REAL, RELABELLED, CAPTIONED = "real", "relabelled", "captioned"
#: All origins; each outweighs those before it. real: as found. relabelled: a json field was replaced. captioned: the
#: caption was replaced. restored: a model changed the image. synthetic: a model made the image.
ORIGINS = (REAL, RELABELLED, CAPTIONED, "restored", "synthetic")
#: What evaluation and decontamination read unless a recipe names other origins.
TRUSTED = (REAL, RELABELLED)


def strongest(origins: Iterable[str | None]) -> str:
    """Return the origin that outweighs the others; None counts as real."""
    return max((origin or REAL for origin in origins), key=ORIGINS.index, default=REAL)


def origin_of(metadata: Mapping[str, Any]) -> str | None:
    """Return the origin that a sample's json names; None for a real sample.

    A mark that this version does not know counts as synthetic, so that no such sample is taken for a real one.
    """
    entry = metadata.get(PROVENANCE)
    origin = entry.get("origin") if isinstance(entry, Mapping) else None
    if origin is None or origin == REAL:
        return None
    return origin if origin in ORIGINS else ORIGINS[-1]


def expect_origins(origins: Iterable[str], field: str) -> None:
    """Raise `ValueError` for a name that is not in `ORIGINS`, or for no name."""
    names = list(origins)
    if not names:
        raise ValueError(f"{field} is empty; name at least one origin")
    if unknown := [name for name in names if name not in ORIGINS]:
        raise ValueError(f"unknown origin {unknown[0]!r} in {field}; the origins are {', '.join(ORIGINS)}")
