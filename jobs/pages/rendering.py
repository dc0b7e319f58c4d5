"""Jinja2 templates to pages: one HTML file each, without scripts and without anything from another place.

Every value is escaped for HTML (`autoescape`), after control characters in it became visible (`printable`), so that no
page depends on a template's author remembering either. A missing value is an error instead of an empty cell.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from curation.core.printable import printable

SIDE = 160  # pixels of a picture's longer side, at most

#: Returns the RGB picture (None where it can't be shown) and the caption of the sample with a uid.
SampleReading = Callable[[str], tuple[np.ndarray[Any, Any] | None, str]]


def render(template: str, **values: Any) -> str:
    """Return a template of jobs/pages/templates as HTML. `values`: what it shows, as plain text and numbers."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("jobs.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"thousands": "{:,}".format, "percent": "{:.1%}".format}
    return environment


def _visible(value: Any) -> Any:
    """Make control characters of a text visible; what a template made itself stays as it is."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@dataclass(frozen=True)
class SampleView:
    """A sample as a page shows it: its uid, its caption or why that is missing, a JPEG in base64 or ""."""

    uid: str
    caption: str
    jpeg: str = ""


def sample_view(uid: str, pixels: np.ndarray[Any, Any] | None, caption: str, letters: int = 200) -> SampleView:
    """Return a view of one sample. `pixels`: RGB; `letters`: of the caption, at most."""
    return SampleView(uid, caption[:letters], "" if pixels is None else jpeg(pixels))


def jpeg(pixels: np.ndarray[Any, Any]) -> str:
    """Return an RGB picture, reduced to `SIDE` pixels, as a JPEG in base64."""
    scale = min(1.0, SIDE / max(pixels.shape[:2]))
    width, height = (max(1, round(side * scale)) for side in pixels.shape[1::-1])
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return b64encode(cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1].tobytes()).decode()
