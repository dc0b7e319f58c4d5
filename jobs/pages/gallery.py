"""A picture of a snapshot: kept samples in the first row, dropped ones in a row for each reason."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation.core.errors import ImageError, TarError
from curation.core.types import IMAGE_EXTENSIONS
from curation.dataset.snapshot import Snapshot
from curation.shards import contents, images
from curation.shards.images import DecodeLimits, Pixels
from curation.shards.sample_reader import SampleReader
from curation.shards.tar_samples import TarSample
from curation.storage.store import Store, open_store

COLUMNS = 10
SHOWN = 512  # pixels of a picture's longer side, at most
SEED_COLUMN = "uid"  # uids are hashes, so the smallest ones are a random and repeatable draw


def gallery(snapshot: Snapshot, path: Path, columns: int = COLUMNS) -> None:
    """Draw `columns` samples of each outcome as a PNG at `path`. Reads the bytes of these samples only."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = list(_rows(snapshot, columns))
    figure, axes = plt.subplots(len(rows), columns, figsize=(1.35 * columns, 1.75 * len(rows)), squeeze=False)
    for line, (title, samples) in zip(axes, rows, strict=True):
        for axis in line:
            axis.axis("off")
        for axis, sample in zip(line, samples, strict=False):
            _cell(axis, *content(snapshot, sample), sample)
        line[0].text(-0.1, 1.22, title, transform=line[0].transAxes, fontsize=10, fontweight="bold")
    figure.subplots_adjust(left=0.02, right=0.99, top=0.96, bottom=0.05, hspace=0.85, wspace=0.15)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _rows(snapshot: Snapshot, n: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield (title, manifest rows) of the kept samples, then of each reason."""
    samples = snapshot.document["samples"]
    outcomes = [("kept", None, samples["kept"])]
    for decision in ("filtered", "quarantined"):
        outcomes += [(decision, reason, count) for reason, count in samples[decision].items()]
    for decision, reason, count in outcomes:
        query = f"""SELECT * FROM manifest WHERE decision = $decision AND ($reason IS NULL OR reason = $reason)
            ORDER BY {SEED_COLUMN} LIMIT $n"""
        title = f"{decision}{f': {reason}' if reason else ''}  ({count:,} samples)"
        yield (
            title,
            snapshot.manifest.query(query, parameters={"decision": decision, "reason": reason, "n": n}).to_pylist(),
        )


def content(snapshot: Snapshot, row: Mapping[str, Any]) -> tuple[Pixels | None, str]:
    """Return the RGB picture (or None) and the caption of a manifest's row, from the sample's raw bytes."""
    store = open_store(_root(snapshot), snapshot.store.options)
    return content_at(store, row, snapshot.limits, snapshot.caption)


def content_at(
    store: Store, row: Mapping[str, Any], limits: DecodeLimits | None = None, caption: str = ""
) -> tuple[Pixels | None, str]:
    """Return the RGB picture (or None) and the caption of a sample in a store of shards.

    `row`: source_key, source_etag, source_offset and source_length. Pictures are decoded as strictly as in a run,
    within `limits`, because quarantined bytes are shown too, and reduced to `SHOWN` pixels. Raises `StoreError` for a
    sample that was deleted or replaced.
    """
    reader = _READERS.setdefault(store.url, SampleReader(store))
    try:
        sample = reader.read(*(row[f"source_{name}"] for name in ("key", "etag", "offset", "length")))
    except TarError:
        return None, ""
    return _picture(sample, limits or DecodeLimits()), _caption(sample, caption)


_READERS: dict[str, SampleReader] = {}  # by store URL: a command reads a large unsorted shard only once


def _picture(sample: TarSample, limits: DecodeLimits) -> Pixels | None:
    data = next((part.data for part in sample.parts if part.extension in IMAGE_EXTENSIONS), b"")
    try:
        pixels = images.whole(data, limits, SHOWN, images.inspect(data, limits))
    except ImageError:
        return None
    scale = min(1.0, SHOWN / max(pixels.shape[:2]))
    width, height = (max(1, round(side * scale)) for side in pixels.shape[1::-1])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _caption(sample: TarSample, place: str) -> str:
    parts = {part.extension: part.data for part in sample.parts}
    try:
        metadata = contents.metadata(parts["json"]) if "json" in parts else {}
        return contents.caption(parts, metadata, place)
    except ImageError:
        return parts.get("txt", b"")[: contents.MAX_CAPTION_BYTES].decode(errors="replace")


def _root(snapshot: Snapshot) -> str:
    from curation.ledger.ledger import Ledger

    root: str = Ledger(snapshot.store).open_plan(snapshot.document["plan"]).document["corpus"]["root"]
    return root


def _square(pixels: Pixels) -> Pixels:
    """Centre a picture on a white square, so that titles and captions of wide pictures don't overlap."""
    height, width = pixels.shape[:2]
    side = max(height, width)
    square = np.full((side, side, 3), 255, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square


@cache
def _drawable() -> frozenset[int]:
    """The characters that the default font has; it has no CJK and no emoji."""
    from matplotlib import font_manager, ft2font

    return frozenset(ft2font.FT2Font(font_manager.findfont(font_manager.FontProperties())).get_charmap())


def _cell(axis: Any, pixels: Any, caption: str, row: dict[str, Any]) -> None:
    if pixels is not None:
        axis.imshow(_square(pixels))
    plain = "".join(letter if ord(letter) in _drawable() else "?" for letter in caption)
    score = row.get("clip_score")
    label = textwrap.shorten(plain.replace("$", ""), 40, placeholder="...") or "(no caption)"
    text = "\n".join(textwrap.wrap(label, 20)) + (f"\n{score:.2f}" if score is not None else "")
    axis.set_title(text, fontsize=6, y=-0.16, va="top")
