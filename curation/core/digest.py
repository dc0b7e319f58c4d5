"""Content-derived names: the sha256 of canonical JSON, and of files."""

from __future__ import annotations

import json
from hashlib import file_digest, sha256
from pathlib import Path


def canonical(value: object) -> bytes:
    """Encode `value` as UTF-8 JSON with sorted keys and no spaces: equal values have equal bytes.

    Raises `ValueError` for NaN and infinities, and `TypeError` for a value that JSON has no form for.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: object) -> str:
    """Return the sha256 of `canonical(value)` as 64 hexadecimal characters."""
    return sha256(canonical(value)).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as 64 hexadecimal characters; the file is read as a stream."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
