"""Files of phrases, a line each, as filters name them."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path


def write_list(path: Path, lines: Iterable[str]) -> None:
    """Write them in the order given."""
    path.write_text("".join(f"{line}\n" for line in lines))


def listed(path: Path) -> dict[str, str]:
    """The fields `url` and `sha256` of a filter."""
    return {"url": str(path), "sha256": sha256(path.read_bytes()).hexdigest()}
