"""Versions of what decodes and computes: a run records them, and another version of them is no reason for another run.

A record of a score table holds a short digest; `<scores>/software/<digest>.json` the versions behind it, put once; a
snapshot the versions of the driver, and of other nodes where these differed. Cost: 5 ms once a process, and one small
create-only PUT once a process and store.
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
    """Package -> version, as installed in this process; with Python's own."""
    return dict(_software())


def software_id(versions: Mapping[str, str]) -> str:
    """The short digest that records hold: 16 hexadecimal characters."""
    return digest(versions)[:16]


def of_this_process() -> dict[str, dict[str, str]]:
    """Digest -> versions, as a snapshot records them."""
    versions = software()
    return {software_id(versions): versions}
