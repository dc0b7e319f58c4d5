"""Columns that `curate what-if` has loaded, kept on local disk for the next question: it begins at once.

    $XDG_CACHE_HOME/tutelage/columns/<identity>.duckdb

Named by all that decides them, so they are never stale, and only read. Of more than `MOST_BYTES` in all those that were
used longest ago go. Who can't spare the disk gives `--no-keep`. Cost: what the columns take anyhow while a question is
answered, about 60 bytes a sample and 10 million samples' captions and numbers in 0.6 GB.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import duckdb

from curation.core.cache import cache_folder
from curation.core.digest import digest
from curation.core.types import ShardRef
from curation.curating.decisions import Decisions

MOST_BYTES = 8 << 30
HALF_WRITTEN = 86_400  # seconds after which nobody is at a file any more
VERSION = 1  # of what a file holds


def identity(
    plan: str,
    index: Sequence[str],
    vectors: Sequence[str],
    made: Mapping[str, str],
    samples: int,
    without: Collection[ShardRef] = (),
) -> str:
    """What names a file: the plan, which tells the fingerprints of all scores; the columns of the index, and which of
    the scores' vectors; `made` as the engine has it; `samples` of an output shard, by which a sample has its length;
    shards of the plan that it is `without`."""
    more = [sorted(list(shard) for shard in without)] if without else []
    return digest([VERSION, duckdb.__version__, plan, sorted(index), sorted(vectors), dict(made), samples, *more])


def found(name: str) -> Path | None:
    """The file, if it is kept."""
    path = _path(name)
    try:
        os.utime(path)  # used now
    except OSError:  # it does not exist, or belongs to another user
        return path if os.access(path, os.R_OK) else None
    return path


def keep(engine: Decisions, name: str) -> str:
    """Keep what an engine has loaded. Returns why it can't be, or nothing."""
    path = _path(name)
    if (size := engine.loaded_bytes()) > MOST_BYTES:
        return f"it takes {size / 1e9:.1f} GB, and at most {MOST_BYTES / 1e9:.1f} GB are kept"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o700)  # captions are for nobody else on this machine
        engine.keep(path)
        _evict(path.parent)
    except OSError as error:
        return str(error)
    return ""


def _evict(folder: Path) -> None:
    """Those that were used longest ago, and what killed commands have left half-written."""
    used: list[tuple[float, int, Path]] = []
    for one in folder.iterdir():
        with suppress(FileNotFoundError):  # another command is at it
            found = one.stat()
            if one.suffix == ".duckdb":
                used.append((found.st_mtime, found.st_size, one))
            elif found.st_mtime < time.time() - HALF_WRITTEN:
                one.unlink()
    size = 0
    for _, bytes_, one in sorted(used, reverse=True):
        size += bytes_
        if size > MOST_BYTES:
            one.unlink(missing_ok=True)


def _path(name: str) -> Path:
    return cache_folder() / "columns" / f"{name}.duckdb"
