"""Keys of hashes: their first 64 bits, and 0 where there is none."""

from __future__ import annotations

import numpy as np

from curation.models.hash_keys import hash_keys


def test_keys_are_the_first_64_bits_and_0_without_a_hash() -> None:
    found = hash_keys(["f" * 32, "0123456789abcdef" + "9" * 16, None, ""])
    assert found.dtype == np.uint64 and found.tolist() == [2**64 - 1, 0x0123456789ABCDEF, 0, 0]
    assert hash_keys([]).tolist() == []
