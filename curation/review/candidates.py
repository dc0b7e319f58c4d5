"""From ranked samples to the items of a queue: read each sample once, for its label and its picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from curation.core.errors import UserError
from curation.core.parallel import map_ordered
from curation.core.progress import Tick
from curation.review.documents import BEST, ITEMS_SCHEMA, MOST_CAPTION
from curation.review.samples import SOURCE, InspectedSample, inspect_sample
from curation.shards.images import DecodeLimits
from curation.shards.sample_reader import SampleReader
from curation.storage.store import Store

THREADS = 8  # samples read and decoded at once


def items_of(
    ranked: pa.Table, store: Store, field: str, classes: Sequence[str], limits: DecodeLimits,
    tick: Tick = lambda n: None,
) -> tuple[pa.Table, list[str]]:  # fmt: skip
    """Return the items of a queue (`ITEMS_SCHEMA`), and its classes: those given, or the labels found, sorted.

    ranked: uid, source (key, etag, offset, length), caption, priority, posterior (a list of probabilities in the order
    of `classes`, or null). field: of the json, with the label. Costs one ranged read and one decode a sample. A sample
    whose label or picture can't be used stays an item, with the reason. Raises `UserError` for less than two classes.
    """
    with SampleReader(store) as reader:

        def one(row: dict[str, Any]) -> InspectedSample:
            return inspect_sample(reader, row, field, limits)

        inspected = []
        for found in map_ordered(one, _rows(ranked), THREADS):
            inspected.append(found)
            tick(1)
    names = list(classes) or sorted({found.label for found in inspected if found.label is not None})
    if len(names) < 2:
        fix = "check --label, or name the classes with --classes"
        raise UserError(f"the samples have {len(names)} different labels in the field `{field}`", fix=fix)
    known = set(names)
    inspected = [_with_class(found, known) for found in inspected]
    captions = [(text or "")[:MOST_CAPTION] for text in ranked.column("caption").to_pylist()]
    best = [best_of(row, names) for row in ranked.column("posterior").to_pylist()]
    columns = {
        "item": range(ranked.num_rows),
        **{name: ranked.column(name).to_pylist() for name in ("uid", *SOURCE, "priority")},
        "label": [found.label for found in inspected],
        "label_json": [found.label_json for found in inspected],
        "caption": captions,
        "best": best,
        "reason": [found.reason for found in inspected],
        "detail": [found.detail for found in inspected],
    }
    return pa.table([pa.array(columns[f.name], f.type) for f in ITEMS_SCHEMA], schema=ITEMS_SCHEMA), names


def best_of(posterior: Sequence[float] | None, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the most probable classes with their probabilities, highest first, ties in the order of the classes."""
    if not posterior:
        return []
    if len(posterior) != len(classes):
        text = f"the proxy gives {len(posterior)} probabilities, and the queue has {len(classes)} classes"
        raise UserError(text, fix="name the proxy's classes with --classes, in their order")
    order = sorted(range(len(classes)), key=lambda place: -posterior[place])[:BEST]
    return [{"label": classes[place], "probability": float(posterior[place])} for place in order]


def _with_class(found: InspectedSample, known: set[str]) -> InspectedSample:
    if found.label is None or found.label in known or found.reason is not None:
        return found
    return found._replace(reason="unknown_class", detail=f"{found.label[:80]!r} is none of the {len(known)} classes")


def _rows(ranked: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = ranked.select(SOURCE).to_pylist()
    return rows
