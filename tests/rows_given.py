"""Random tables for the tests of filters, with ties, repeats and quarantined rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from curation.ledger.score_values import vector_bytes

Row = dict[str, Any]


def table(rows: list[Row]) -> pa.Table:
    names = {"caption": pa.string(), "width": pa.int32(), "height": pa.int32(), "content_hash": pa.string()}
    names |= {"length": pa.int64(), "format": pa.string(), "origin": pa.string()}
    columns = {name: pa.array([row.get(name) for row in rows], kind) for name, kind in names.items()}
    fixed = {
        "row": pa.array(range(len(rows)), pa.int32()),
        "uid": pa.array([row["uid"] for row in rows], pa.string()),
        "reason": pa.array([row.get("reason") for row in rows], pa.string()),
        "score": pa.array([row["score"] for row in rows], pa.float32()),
        "phash": pa.array([row["phash"] for row in rows], pa.int64()),
        "cluster": pa.array([row["cluster"] for row in rows], pa.int32()),
        "embedding": vector_bytes(pa.chunked_array([vectors(rows)])),
    }
    return pa.table({**fixed, **columns})


def vectors(rows: list[Row]) -> pa.Array:
    """float16 [N, 8], as score tables have them."""
    flat = np.array([row["embedding"] for row in rows], np.float16).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), 8)


def random_rows(n: int, seed: int) -> list[Row]:
    rng = np.random.default_rng(seed)
    words = ["red", "apple", "sale", "", "a", "日本", "  ", "café"]
    hashes = rng.integers(-(2**63), 2**63 - 1, max(1, n // 4))
    hashes[::9] = 0  # blank pictures, and some that are near them
    seeds = rng.normal(size=(max(1, n // 4), 8))

    def flips(rng: np.random.Generator) -> np.int64:
        """A few bits of 64, the sign among them."""
        bits = rng.integers(0, 64, rng.integers(0, 6))
        return np.bitwise_xor.reduce(np.left_shift(np.int64(1), bits), initial=np.int64(0))

    rows: list[Row] = [
        {
            "uid": f"{rng.integers(0, 2**62):032x}",
            "caption": " ".join(rng.choice(words, rng.integers(0, 6))),
            "width": int(rng.integers(1, 300)),
            "height": int(rng.integers(1, 300)),
            "content_hash": f"{rng.integers(0, max(1, n // 3))}",
            "length": int(rng.integers(512, 9000)),
            "phash": int(hashes[rng.integers(0, len(hashes))] ^ flips(rng)),
            "cluster": int(rng.geometric(0.3)),
            "format": str(rng.choice(["png", "jpeg", "webp"])),
            "score": float(np.float32(rng.integers(0, 8) / 8)),  # many ties
            "embedding": unit(seeds[rng.integers(0, len(seeds))] + rng.choice([0.0, 0.2]) * rng.normal(size=8)),
            "reason": "image_corrupt" if rng.random() < 0.1 else None,
        }
        for _ in range(n)
    ]
    origins = (None, "relabelled", "captioned", "synthetic")
    return [{**row, "origin": origins[int(row["uid"], 16) % 4]} for row in rows]


def alike(one: Row, other: Row, distance: int) -> bool:
    """Whether two perceptual hashes are near, by the rule of `hamming.are_near`. A blank picture is near none."""
    a, b = one["phash"] % 2**64, other["phash"] % 2**64
    informative = min(a.bit_count(), b.bit_count(), 32)
    return bool(a and b) and (a ^ b).bit_count() <= int(distance * informative / 32 + 0.5)


def unit(vector: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return (vector / np.linalg.norm(vector)).astype(np.float16)
