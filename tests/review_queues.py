"""Small review queues for tests: one shard of pictures with labels, and the items that read it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from builders import picture

from curation.core.types import uid
from curation.curating.ranked_samples import RANKED_SCHEMA
from curation.review.candidates import items_of
from curation.review.queue import Queue, create_queue
from curation.shards.images import DecodeLimits
from curation.shards.tar_samples import read_samples
from curation.shards.tar_writer import TarWriter
from curation.storage.store import open_store

CLASSES = ("cat", "dog", "owl")
DOCUMENT = ("budget", "classes", "label", "current_votes", "ranking", "corpus", "limits")


def write_labelled(root: Path, n: int = 12, changes: Mapping[int, Mapping[str, Any]] = {}) -> pa.Table:
    """Write n samples with labels from `CLASSES` in turn to `root/corpus`; return them ranked (`RANKED_SCHEMA`).

    changes: item -> `label` (None: no label), `image` (bytes), `caption`.
    """
    path = root / "corpus/00000.tar"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        writer = TarWriter(file)
        for i in range(n):
            change = {"label": CLASSES[i % 3], "image": picture(i, "png", 24), "caption": f"thing {i}"}
            change |= changes.get(i, {})
            value = {} if change["label"] is None else {"label": change["label"]}
            writer.add(f"{i:04d}.png", change["image"])
            writer.add(f"{i:04d}.txt", change["caption"].encode())
            writer.add(f"{i:04d}.json", json.dumps(value).encode())
        writer.close()
    store = open_store(str(root / "corpus"))
    head = store.head("00000.tar")
    data = store.get("00000.tar")
    rows = [
        {"uid": uid(head.key, head.etag, one.start), "source_key": head.key, "source_etag": head.etag,
         "source_offset": one.start, "source_length": one.stop - one.start, "priority": 1 - i / n,
         "caption": next(part.data.decode() for part in one.parts if part.extension == "txt"), "posterior": None}
        for i, one in enumerate(read_samples(iter([data]), len(data)))
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, RANKED_SCHEMA)


def make_queue(
    root: Path, n: int = 12, *, budget: int = 100, current_votes: int = 1, classes: Sequence[str] = CLASSES,
    changes: Mapping[int, Mapping[str, Any]] = {}, url: str = "",
) -> Queue:  # fmt: skip
    """A queue of n items at `root/queue` (or `url`) over the samples of `write_labelled`."""
    ranked = write_labelled(root, n, changes)
    store = open_store(str(root / "corpus"))
    table, found = items_of(ranked, store, "label", classes, DecodeLimits())
    limits = {**asdict(DecodeLimits()), "formats": list(DecodeLimits().formats)}
    document = {
        "budget": budget, "classes": found, "label": "label", "current_votes": current_votes, "corpus": store.url,
        "ranking": {"by": "doubt", "recipe_sha256": "0" * 64}, "limits": limits,
    }  # fmt: skip
    return create_queue(url or str(root / "queue"), document, table)


def empty_queue(root: Path) -> Queue:
    """A queue without items at `root/empty`."""
    queue = make_queue(root, 3)
    document = {name: value for name, value in queue.document.to_json().items() if name in DOCUMENT}
    return create_queue(str(root / "empty"), document, queue.items.slice(0, 0))


def answer(queue: Queue, item: int, reviewer: str, label: str, n: int = 1) -> str:
    """Record a label, or `?` for `cannot_tell`, or `undo`."""
    kind = {"?": "cannot_tell", "undo": "undo"}.get(label, "label")
    return queue.record(queue.answer(kind, item, reviewer, n, label if kind == "label" else None))
