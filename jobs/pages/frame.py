"""The frame of every page: one HTML file, without scripts or anything from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import Any

import cv2
import numpy as np


def document(title: str, body: str) -> str:
    """A page of its own, in our style."""
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style>\n<body>\n{body}\n</body></html>\n"
    )


STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}
th,td{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #ddd;vertical-align:middle}
code{background:#f3f3f3;padding:0 .2rem}
.bar{display:inline-block;height:.8rem;background:#3b6ea5;vertical-align:middle}.all{background:#bbb}
.one{display:inline-block;margin:0 .6rem .4rem 0;vertical-align:top;max-width:11rem}
.drop{color:#a33} .wide{overflow-x:auto} td,code{overflow-wrap:anywhere}
"""


def jpeg(pixels: np.ndarray[Any, Any]) -> str:
    """A small JPEG of an RGB picture, in base64."""
    scale = min(1.0, SIDE / max(pixels.shape[:2]))
    width, height = (max(1, round(side * scale)) for side in pixels.shape[1::-1])
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return b64encode(cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1].tobytes()).decode()


SIDE = 160  # pixels of a picture's longer side, at most
