"""Content-derived names: canonical JSON and its sha256."""

from __future__ import annotations

import json
from hashlib import sha256


def canonical(value: object) -> bytes:
    """Encode `value` as UTF-8 JSON with sorted keys and no spaces: equal values have equal bytes.

    Raises `ValueError` for NaN and infinities, and `TypeError` for a value that JSON has no form for.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: object) -> str:
    """Return the sha256 of `canonical(value)` as 64 hexadecimal characters."""
    return sha256(canonical(value)).hexdigest()
