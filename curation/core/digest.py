"""Names from content: canonical JSON, and its sha256."""

from __future__ import annotations

import json
from hashlib import sha256


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no spaces: equal values have equal bytes, so hashes of them are names."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: object) -> str:
    """sha256 of the canonical JSON of `value`, 64 hexadecimal characters."""
    return sha256(canonical(value)).hexdigest()
