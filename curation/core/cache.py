"""The folder of this machine's caches: files that can be fetched or computed again."""

from __future__ import annotations

from pathlib import Path


def cache_folder() -> Path:
    """Return the platform's cache folder for Tutelage, which may not exist yet and is always safe to delete.

    `$XDG_CACHE_HOME/tutelage` on Linux and macOS where that variable is an absolute path, otherwise
    `~/.cache/tutelage` on Linux, `~/Library/Caches/tutelage` on macOS and `tutelage/Cache` below `%LOCALAPPDATA%` on
    Windows.
    """
    from platformdirs import user_cache_path

    return user_cache_path("tutelage", appauthor=False)
