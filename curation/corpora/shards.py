"""From drawings to the bytes of a shard, and many shards at once in worker processes.

A task is a shard: ~1,000 drawings in (0.5 MB of SVG text and file names), ~5 MB of tar out, 2.5 s of a core between.
Whoever calls puts the bytes where they belong, so memory is four shards, and any store will do: also one that lives in
this process.
"""

from __future__ import annotations

import io
import json
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from hashlib import sha256
from multiprocessing import get_context, parent_process
from typing import NamedTuple

from curation.corpora.captions import caption
from curation.corpora.drawing import Drawing, SeededChoices
from curation.corpora.pictures import look, render
from curation.shards.tar import TarWriter


class CardRow(NamedTuple):
    """What the card counts of a sample."""

    pack: str
    language: str
    format: str
    size: int
    licence: str
    caption: str
    digest: bytes  # of the encoded picture
    unnamed: bool  # its name is only a code point


class RenderedShard(NamedTuple):
    """One rendered shard."""

    data: bytes
    rows: list[CardRow]


def render_shard(seed: int, drawings: Sequence[Drawing]) -> RenderedShard:
    """One shard, in this process."""
    file = io.BytesIO()
    tar = TarWriter(file)
    rows = []
    for drawing in drawings:
        dice = SeededChoices(seed, drawing.key)
        style = look(drawing, dice)
        image, width, height = render(drawing, style)
        text = caption(drawing, style, dice)
        metadata = {
            "name": drawing.name,
            "pack": drawing.pack,
            "keywords": drawing.keywords,
            "licence": drawing.licence,
            "language": drawing.language,
            "width": width,
            "height": height,
            "origin": drawing.origin,
        }
        members = {
            style.extension: image,
            "json": json.dumps(metadata, ensure_ascii=False, sort_keys=True).encode(),
            "txt": text.encode(),
        }
        for extension in sorted(members):
            tar.add(f"{drawing.key}.{extension}", members[extension])
        rows.append(
            CardRow(
                drawing.pack,
                drawing.language,
                style.extension,
                style.size,
                drawing.licence,
                text,
                sha256(image).digest(),
                drawing.key == f"openmoji-{drawing.name}",
            )
        )
    tar.close()
    return RenderedShard(file.getvalue(), rows)


def render_all(seed: int, groups: Sequence[Sequence[Drawing]], workers: int) -> Iterator[RenderedShard]:
    """Shards in order; at most two a worker under way."""
    if workers <= 1 or len(groups) <= 1:
        yield from (render_shard(seed, group) for group in groups)
        return
    with ProcessPoolExecutor(min(workers, len(groups)), get_context("spawn"), _end_with_parent) as pool:
        pending: deque[Future[RenderedShard]] = deque()
        try:
            for group in groups:
                pending.append(pool.submit(render_shard, seed, group))
                if len(pending) >= 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _end_with_parent() -> None:
    """A pool's worker waits for ever for a parent that was killed; this one does not."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
