"""A picture of a snapshot: samples that were kept beside samples that were dropped, a row a reason."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation.data import IMAGE_EXTENSIONS
from curation.snapshot import Snapshot
from curation.store import open_store
from curation.tar import TarSample, read_samples

COLUMNS = 10
SEED_COLUMN = "uid"  # uids are hashes: the smallest ones are a random, repeatable draw


def gallery(snapshot: Snapshot, path: Path, columns: int = COLUMNS) -> None:
    """Draw `columns` samples of each outcome into a PNG. Reads only those samples' bytes."""
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
    """(title, manifest rows) for kept samples, then for each reason."""
    samples = snapshot.document["samples"]
    outcomes = [("kept", None, samples["kept"])]
    for decision in ("filtered", "quarantined"):
        outcomes += [(decision, reason, count) for reason, count in samples[decision].items()]
    for decision, reason, count in outcomes:
        where = f"decision = '{decision}'" + (f" AND reason = '{reason}'" if reason else "")
        query = f"SELECT * FROM manifest WHERE {where} ORDER BY {SEED_COLUMN} LIMIT {n}"
        title = f"{decision}{f': {reason}' if reason else ''}  ({count:,} samples)"
        yield title, snapshot.manifest.query(query).to_pylist()


def content(snapshot: Snapshot, row: dict[str, Any]) -> tuple[Any, str]:
    """(RGB picture or None, caption) of a manifest's row, from the sample's raw bytes."""
    store = open_store(_root(snapshot), snapshot.store.options)
    data = store.get_range(row["source_key"], row["source_offset"], row["source_length"], row["source_etag"])
    sample: TarSample = next(iter(read_samples([data + bytes(1024)], len(data) + 1024)))
    parts = {part.extension: part.data for part in sample.parts}
    image = next((parts[e] for e in parts if e in IMAGE_EXTENSIONS), b"")
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR_RGB) if image else None
    return pixels, parts.get("txt", b"").decode(errors="replace")


def _root(snapshot: Snapshot) -> str:
    from curation.ledger import Ledger

    root: str = Ledger(snapshot.store).open_plan(snapshot.document["plan"]).document["corpus"]["root"]
    return root


def _cell(axis: Any, pixels: Any, caption: str, row: dict[str, Any]) -> None:
    if pixels is not None:
        axis.imshow(pixels)
    plain = caption.encode("latin-1", "replace").decode("latin-1")  # the default font has no CJK or emoji
    score = row.get("clip_score")
    label = textwrap.shorten(plain.replace("$", ""), 40, placeholder="...") or "(no caption)"
    text = "\n".join(textwrap.wrap(label, 20)) + (f"\n{score:.2f}" if score is not None else "")
    axis.set_title(text, fontsize=6, y=-0.16, va="top")
