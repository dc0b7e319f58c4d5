"""Files of phrases, one a line, for filters that read a list."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path


def write_list(path: Path, lines: Iterable[str]) -> None:
    """Write the lines in the given order."""
    path.write_text("".join(f"{line}\n" for line in lines))


def listed(path: Path) -> dict[str, str]:
    """Return the fields `url` and `sha256` that a filter needs."""
    return {"url": str(path), "sha256": sha256(path.read_bytes()).hexdigest()}
