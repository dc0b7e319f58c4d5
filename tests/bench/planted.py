"""A pool of real pairs with planted noise, as WebDataset shards, with a table of the planted samples.

The pool is that of `bench.online.data`: emoji of several vendors and other icons, 64 px PNGs captioned with their
names, which are noisy by nature. Planted are, each kind by a seeded draw, no sample twice:

- exact        copies of a sample, byte for byte, and its caption
- altered      copies re-encoded as JPEG, resized or cropped, a third each, with the caption
- swapped      copies of a sample's picture under the caption of another
- recaptioned  a share of the pool itself, whose captions change places

Shards are ordered by a hash of the keys, so that a copy may come before its original.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pyarrow as pa

from curation.models.batches import Examples
from curation.shards.tar_writer import TarWriter

EDITION = 2  # raise it when this file plants otherwise; part of the folder's name
SAMPLES_PER_SHARD = 2_000
LONGEST = 70  # letters of a key: a tar member's name has 100, with its extension and a copy's suffix
KINDS = ("exact", "altered", "swapped", "recaptioned")


class Counts(NamedTuple):
    """Number of plants of each kind; `recaptioned` is a share of the pool."""

    exact: int = 1_000
    altered: int = 1_000
    swapped: int = 1_000
    recaptioned: float = 0.1


class Row(NamedTuple):
    """A sample to be written, and whether and how it was planted."""

    key: str
    image: bytes
    extension: str
    caption: str
    kind: str = ""
    original: str = ""  # the key of the sample that a copy was made from


def write_pool(examples: Examples, counts: Counts, folder: Path) -> pa.Table:
    """Write shards to `folder`. Returns a table with a row for each sample: key, kind, original, and `same`: whether
    another sample shows the same picture (planted, or with equal pixels by nature)."""
    rows = sorted(planted(examples, counts), key=lambda row: sha256(row.key.encode()).hexdigest())
    assert len({row.key for row in rows}) == len(rows), "a key names one sample"
    write_shards(rows, folder)
    looks = [sha256(cv2.imdecode(np.frombuffer(row.image, np.uint8), cv2.IMREAD_COLOR)).digest() for row in rows]
    times = Counter(looks)
    altered = {key for row in rows if row.kind == "altered" for key in (row.key, row.original)}
    columns = {name: [getattr(row, name) for row in rows] for name in ("key", "kind", "original")}
    same = [times[look] > 1 or row.key in altered for row, look in zip(rows, looks, strict=True)]
    return pa.table({**columns, "same": same})


def planted(examples: Examples, counts: Counts, seed: int = 0) -> Iterator[Row]:
    """Yield the samples of the pool, some of them recaptioned, then the copies."""
    order = np.random.default_rng(seed).permutation(len(examples)).tolist()
    copies = counts.exact + counts.altered + counts.swapped
    moved = order[copies : copies + round(counts.recaptioned * len(examples))]
    captions = list(examples.captions)
    for row, other in zip(moved, moved[1:] + moved[:1], strict=True):
        captions[row] = examples.captions[other]
    recaptioned = {row for row in moved if captions[row] != examples.captions[row]}
    for row in range(len(examples)):
        kind = "recaptioned" if row in recaptioned else ""
        yield Row(key_of(examples.uids[row]), png(examples.pixels[row]), "png", captions[row], kind)
    exact, altered, swapped = np.split(np.array(order[:copies], int), np.cumsum(counts[:2]).tolist())
    for row in exact.tolist():
        yield _copy(examples, row, "exact", png(examples.pixels[row]), "png", examples.captions[row])
    for number, row in enumerate(altered.tolist()):
        yield _copy(examples, row, "altered", *alter(examples.pixels[row], number), examples.captions[row])
    for row, other in zip(swapped.tolist(), np.roll(swapped, -1).tolist(), strict=True):
        if examples.captions[row] != examples.captions[other]:
            yield _copy(examples, row, "swapped", png(examples.pixels[row]), "png", examples.captions[other])


def alter(pixels: np.ndarray, number: int) -> tuple[bytes, str]:
    """Return the picture as a JPEG, at another size or without its border, with the file's extension."""
    if number % 3 == 0:
        quality = (60, 75, 90)[number // 3 % 3]
        return cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes(), "jpg"
    side = len(pixels)
    if number % 3 == 1:
        other = (side * 3 // 4, side * 3 // 2, side * 2)[number // 3 % 3]
        return png(cv2.resize(pixels, (other, other), interpolation=cv2.INTER_AREA)), "png"
    border = 1 + number // 3 % 2
    return png(pixels[border : side - border, border : side - border]), "png"


def write_shards(rows: Sequence[Row], folder: Path) -> None:
    """Write rows as shards, whose bytes are a function of the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, at in enumerate(range(0, len(rows), SAMPLES_PER_SHARD)):
        file = io.BytesIO()
        writer = TarWriter(file)
        for row in rows[at : at + SAMPLES_PER_SHARD]:
            name = json.dumps({"name": row.caption}).encode()
            for extension, data in ((row.extension, row.image), ("json", name), ("txt", row.caption.encode())):
                writer.add(f"{row.key}.{extension}", data)
        writer.close()
        (folder / f"{number:05d}.tar").write_bytes(file.getvalue())


def plain(examples: Examples) -> list[Row]:
    """Rows of samples without any plants."""
    return [
        Row(key_of(uid), png(pixels), "png", caption)
        for uid, pixels, caption in zip(examples.uids, examples.pixels, examples.captions, strict=True)
    ]


def key_of(uid: str) -> str:
    """Turn a uid into a key: no dots, which end a key, no separators; a long one is cut and gets a hash."""
    name = "".join(letter if (letter.isascii() and letter.isalnum()) or letter == "-" else "_" for letter in uid)
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}-{sha256(uid.encode()).hexdigest()[:8]}"


def png(pixels: np.ndarray) -> bytes:
    """RGB pixels as a PNG."""
    return cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))[1].tobytes()


def _copy(examples: Examples, row: int, kind: str, image: bytes, extension: str, caption: str) -> Row:
    key = key_of(examples.uids[row])
    return Row(f"{key}-{kind}", image, extension, caption, kind, key)
