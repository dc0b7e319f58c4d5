"""The words of the system: sample, shard, corpus, unit, batch. One short file, no logic but the uid.

A uid says where a sample's bytes live, never what somebody called it: two shards may both hold a `000001.jpg`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

_NONCE = re.compile(r"((?:^|/)data/[0-9a-f]{64}-[0-9a-f]{16})-[0-9a-f]{8}(?=\.tar\Z)")

# Of these, files of some kinds are refused, such as animated AVIF and TIFFs of 32 bits a channel: see `images`.
FORMATS = ("jpeg", "png", "webp", "gif", "avif", "bmp", "tiff")
IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")


class ShardRef(NamedTuple):
    """One WebDataset tar as listed and pinned. `key` is relative to the corpus' root; `size` in bytes."""

    key: str
    size: int
    etag: str

    @property
    def content(self) -> tuple[str, int, str]:
        """The reference without the random part of the name of a dataset's shard: the same for the same content, so
        that hashes of it are those of another run that wrote the same shards."""
        return _NONCE.sub(r"\1", self.key), self.size, self.etag


class Source(NamedTuple):
    """Where a sample's bytes live: `[offset, offset + length)` of the shard with this key and etag."""

    key: str
    etag: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One image, its caption, its metadata (the sample's json, or `{}`), with its bytes as they were found."""

    uid: str
    key: str
    image: bytes
    extension: str
    caption: str
    metadata: Mapping[str, Any]
    source: Source


def uid(key: str, etag: str, offset: int) -> str:
    """The 128-bit name of the sample whose first header stands at byte `offset` of shard (`key`, `etag`).

    32 hexadecimal characters. At 10 billion samples the chance of any collision is 1.5e-19.
    """
    return sha256(f"{key}\0{etag}\0{offset}".encode()).hexdigest()[:32]
