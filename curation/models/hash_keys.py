"""Integers that stand for hexadecimal hashes, such as uids and content hashes, in arrays that are searched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def hash_keys(hashes: Sequence[str | None]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return the first 64 bits of each hash (16 hexadecimal digits or more), uint64 [N]; 0 for None and for ""."""
    return np.array([int(text[:16], 16) if text else 0 for text in hashes], np.uint64)
