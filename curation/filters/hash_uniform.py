"""Reproducible uniform numbers: a hash of a seed and a sample's uid."""

from __future__ import annotations


def hash_uniform(seed: int, of: str) -> str:
    """SQL of a number in [0, 1) computed from the row's `uid`, uniform over samples.

    A filter keeps a sample when the number is below the share to keep. The number depends on no other sample, so data
    added later changes none. Numbers of another `seed`, or of another purpose `of`, are independent of these. They are
    the upper 53 bits of an md5, which a double holds exactly; unlike DuckDB's own hash, an md5 is the same in every
    version. Cost: 0.6 us a sample.
    """
    salt = f"{seed} {of} ".replace("'", "''")
    return f"((md5_number_upper('{salt}' || uid) >> 11)::DOUBLE / {1 << 53})"
