"""The basic types: shard reference, source, sample; and the uid.

A uid is derived from where a sample's bytes are stored, never from its name: two shards may both hold a `000001.jpg`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

_NONCE = re.compile(r"((?:^|/)data/[0-9a-f]{64}-[0-9a-f]{16})-[0-9a-f]{8}(?=\.tar\Z)")

# Some files of these formats are refused, such as animated AVIF and TIFF with 32 bits a channel: see `shards.images`.
FORMATS = ("jpeg", "png", "webp", "gif", "avif", "bmp", "tiff")
IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")

OWN, OTHER = "own", "other"  # answers of a dual encoder about a pair: its own caption and picture, or another pair's


class ShardRef(NamedTuple):
    """One WebDataset tar as listed and pinned. `key` is relative to the corpus's root; `size` is in bytes."""

    key: str
    size: int
    etag: str

    @property
    def content(self) -> tuple[str, int, str]:
        """The reference without the random part of an output shard's name: equal for runs that wrote equal bytes."""
        return _NONCE.sub(r"\1", self.key), self.size, self.etag


class Source(NamedTuple):
    """The location of a sample's bytes: `[offset, offset + length)` of the shard with this key and etag."""

    key: str
    etag: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One image (its original bytes), its caption and its metadata (the sample's json, or `{}`)."""

    uid: str
    key: str
    image: bytes
    extension: str
    caption: str
    metadata: Mapping[str, Any]
    source: Source


def uid(key: str, etag: str, offset: int) -> str:
    """Return the uid of the sample whose first header is at byte `offset` of the shard (`key`, `etag`).

    128 bits as 32 hexadecimal characters. At 10 billion samples the probability of any collision is 1.5e-19.
    """
    return sha256(f"{key}\0{etag}\0{offset}".encode()).hexdigest()[:32]
