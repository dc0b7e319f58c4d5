"""Versions of the packages that decode and compute. Runs record them; another version does not invalidate any score.

The record of a score table holds a short digest, and `<scores>/software/<digest>.json` the versions behind it. A
snapshot holds the versions of the driver, and those of other nodes where they differ. Cost: 5 ms once a process, and
one small create-only PUT once per process and store.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

from curation.core.digest import digest

PACKAGES = (
    "tutelage", "duckdb", "numpy", "open_clip_torch", "opencv-python-headless", "pillow", "pyarrow", "simplejpeg",
    "torch",
)  # fmt: skip


@lru_cache(maxsize=1)
def _software() -> tuple[tuple[str, str], ...]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return tuple(sorted(found.items()))


def software() -> dict[str, str]:
    """Return package -> version as installed in this process, including Python's own."""
    return dict(_software())


def software_id(versions: Mapping[str, str]) -> str:
    """Return the short digest that records hold: 16 hexadecimal characters."""
    return digest(versions)[:16]


def of_this_process() -> dict[str, dict[str, str]]:
    """Return digest -> versions of this process, in the form that a snapshot records."""
    versions = software()
    return {software_id(versions): versions}
