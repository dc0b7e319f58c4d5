"""A small build of the corpus `openmoji-icons`, from the real packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curation.corpora import BuildResult
from curation.corpora.openmoji_icons import build
from curation.storage.store import open_store

LIMIT, PER_SHARD = 400, 150


def small(folder: Path, **arguments: Any) -> BuildResult:
    return build(open_store(str(folder)), **{"limit": LIMIT, "samples_per_shard": PER_SHARD, "workers": 1, **arguments})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def image(sample: dict[str, Any]) -> bytes:
    return bytes(sample["jpg"] if "jpg" in sample else sample["png"])
