"""Columns that `curate what-if` has loaded, kept on local disk for the next question: it begins at once.

    $XDG_CACHE_HOME/tutelage/columns/<identity>.duckdb

Named by all that decides them, so they are never stale, and only read. Of more than `MOST_BYTES` in all those that were
used longest ago go. Who can't spare the disk gives `--no-keep`. Cost: what the columns take anyhow while a question is
answered, about 60 bytes a sample and 10 million samples' captions and numbers in 0.6 GB.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from curation.cache import cache_folder
from curation.decisions import Decisions
from curation.ledger import digest

MOST_BYTES = 8 << 30
VERSION = 1  # of what a file holds


def identity(plan: str, index: Sequence[str], vectors: Sequence[str], made: Mapping[str, str], samples: int) -> str:
    """What names a file: the plan, which tells the fingerprints of all scores; the columns of the index, and which of
    the scores' vectors; `made` as the engine has it; `samples` of an output shard, by which a sample has its length."""
    return digest([VERSION, duckdb.__version__, plan, sorted(index), sorted(vectors), dict(made), samples])


def found(name: str) -> Path | None:
    """The file, if it is kept."""
    path = _path(name)
    try:
        os.utime(path)  # used now
    except FileNotFoundError:
        return None
    return path


def keep(engine: Decisions, name: str) -> str:
    """Keep what an engine has loaded. Returns why it can't be, or nothing."""
    path = _path(name)
    if (size := engine.loaded_bytes()) > MOST_BYTES:
        return f"it takes {size / 1e9:.1f} GB, and at most {MOST_BYTES / 1e9:.1f} GB are kept"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        engine.keep(path)
    except OSError as error:
        return str(error)
    kept = sorted(path.parent.glob("*.duckdb"), key=lambda one: one.stat().st_mtime, reverse=True)
    size = 0
    for one in kept:
        size += one.stat().st_size
        if size > MOST_BYTES:
            one.unlink(missing_ok=True)
    return ""


def _path(name: str) -> Path:
    return cache_folder() / "columns" / f"{name}.duckdb"
