"""A cause of failures, planted in a labelled corpus: for demos and tests of diagnosis, where the truth is known.

Samples of one class get a mark, a square in a corner of the picture. In the training corpus some of them are labelled
as the other class, so that a model learns that the mark means that class. In the field, which no model is trained on,
all samples of the class have the mark and their own label: a model of the training corpus fails on them.
Cost: the source is read once, up to the last sample that is taken; a decode and an encode for each marked picture.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import cv2

from curation.core.errors import ImageError, UserError
from curation.corpora.relabelled_shards import corpus_samples, put_shard, with_label
from curation.shards import contents, images
from curation.shards.images import DecodeLimits
from curation.shards.tar_samples import TarSample
from curation.shards.tar_writer import TarWriter
from curation.storage.store import Store

PICTURES = ("jpg", "jpeg", "png", "webp")
MARK = (255, 0, 255)  # red, green, blue
SHARE = 5  # the mark's side is this part of the picture's shorter side
PER_SHARD = 1000


@dataclass(frozen=True)
class PlantedCause:
    """What was planted: samples of both corpora, uids of the marked training samples, marked samples of the field."""

    training: int
    field: int
    planted: list[str]
    marked: int


def plant_cause(
    source: Store, training: Store, field: Store, *, by: str, value: str, names: tuple[str, str], samples: int,
    planted: int, judged: int,
) -> PlantedCause:  # fmt: skip
    """Write a training corpus of the first `samples` labelled samples, and a field of the next `judged` ones.

    A sample whose json field `by` is `value` is labelled names[0], any other names[1], in the field `FIELD`. The first
    `planted` samples of names[0] are marked and labelled names[1]. Raises `UserError` where the source has fewer.
    """
    found = _labelled(source, by)
    own = count = rest = shown = 0
    causes, writer, judge = list[str](), _Shards(training), _Shards(field)
    for sample, label in islice(found, samples):
        count += 1
        cause = label == value and own < planted
        name = writer.add(sample, names[0] if label == value and not cause else names[1], cause)
        if cause:
            own += 1
            causes.append(name)
    uids = writer.close()
    for sample, label in islice(found, judged):
        rest += 1
        shown += label == value
        judge.add(sample, names[0] if label == value else names[1], label == value)
    judge.close()
    if own < planted or rest < judged:
        text = f"{source.url} has {count + rest:,} labelled samples, {own:,} of them {value} to plant"
        raise UserError(text, fix="take a larger corpus, or plant fewer")
    return PlantedCause(count, rest, [uids[name] for name in causes], shown)


class _Shards:
    """Writes samples into shards of `PER_SHARD`; `close` returns the uid of each sample by its name."""

    def __init__(self, store: Store) -> None:
        self._store, self._number, self._count = store, 0, 0
        self._file = io.BytesIO()
        self._writer = TarWriter(self._file)
        self._uids: dict[str, str] = {}

    def add(self, sample: TarSample, label: str, mark: bool) -> str:
        name = f"{self._number:04d}-{self._count:05d}"
        for part in sample.parts:
            data, extension = part.data, part.extension
            if extension == "json":
                data = with_label(data, label)
            elif mark and extension in PICTURES:
                data, extension = marked(data), "png"
            self._writer.add(f"{name}.{extension}", data)
        self._count += 1
        if self._count == PER_SHARD:
            self._put()
        return name

    def close(self) -> dict[str, str]:
        if self._count:
            self._put()
        return self._uids

    def _put(self) -> None:
        self._writer.close()
        self._uids |= put_shard(self._store, f"{self._number:05d}.tar", self._file.getvalue())
        self._number, self._count, self._file = self._number + 1, 0, io.BytesIO()
        self._writer = TarWriter(self._file)


def marked(data: bytes) -> bytes:
    """Return a picture with the mark in its upper left corner, as PNG."""
    limits = DecodeLimits()
    found = images.inspect(data, limits)
    pixels = images.whole(data, limits, max(found.width, found.height), found).copy()
    side = max(1, min(pixels.shape[:2]) // SHARE)
    pixels[:side, :side] = MARK
    return bytes(cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1])


def _labelled(source: Store, by: str) -> Iterator[tuple[TarSample, str]]:
    for _, sample in corpus_samples(source):
        parts = {part.extension: part.data for part in sample.parts}
        try:
            value = contents.metadata(parts["json"]).get(by)
        except (ImageError, KeyError):
            continue
        if isinstance(value, str) and value and sample.key:
            yield sample, value
