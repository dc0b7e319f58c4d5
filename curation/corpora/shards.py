"""Drawings rendered to the bytes of WebDataset shards, one worker process for each core.

A task is a shard: about 1,000 drawings in (0.5 MB of SVG text and file names), 5 MB of tar out, 1.3 s of a core.
Processes, because resvg holds the GIL. The caller stores the bytes, so that any store will do, and memory is bounded by
two shards for each worker.
"""

from __future__ import annotations

import io
import json
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

from curation.core.executor import ONE_CPU, CallHandle, WorkerPlace, WorkerPool
from curation.core.local_executor import LocalExecutor
from curation.corpora.captions import caption
from curation.corpora.drawing import Drawing, SeededChoices
from curation.corpora.pictures import look, render
from curation.shards.tar_writer import TarWriter


class CardRow(NamedTuple):
    """The properties of one sample that the card counts."""

    pack: str
    language: str
    format: str
    size: int
    licence: str
    caption: str
    digest: bytes  # of the encoded picture
    unnamed: bool  # its name is only a code point


class RenderedShard(NamedTuple):
    """The bytes of one shard, and a row for each of its samples."""

    data: bytes
    rows: list[CardRow]


def render_shard(seed: int, drawings: Sequence[Drawing]) -> RenderedShard:
    """Render one shard in this process."""
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
    """Yield the shards of groups of drawings, in order, with at most two under way for each worker."""
    if workers <= 1 or len(groups) <= 1:
        yield from (render_shard(seed, group) for group in groups)
        return
    with LocalExecutor().pool(partial(Renderer, seed), ONE_CPU) as pool:
        numbers = [pool.start() for _ in range(min(workers, len(groups)))]
        pending: deque[CallHandle] = deque()
        for index, group in enumerate(groups):
            pending.append(pool.submit(numbers[index % len(numbers)], "render", group))
            if len(pending) >= 2 * len(numbers):
                yield _result(pool, pending.popleft())
        while pending:
            yield _result(pool, pending.popleft())


class Renderer:
    """A worker's object; it keeps the seed."""

    def __init__(self, seed: int, place: WorkerPlace) -> None:
        self._seed = seed

    def render(self, drawings: Sequence[Drawing]) -> RenderedShard:
        return render_shard(self._seed, drawings)


def _result(pool: WorkerPool, call: CallHandle) -> Any:
    pool.wait([call])
    return pool.result(call)
