"""Where this machine keeps what it would have to fetch or make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/tutelage`, or `~/.cache/tutelage` where that is not an absolute path. Safe to delete."""
    base = os.environ.get("XDG_CACHE_HOME") or ""
    return (Path(base) if base.startswith("/") else Path("~/.cache").expanduser()) / "tutelage"
