"""The pipeline from score tables to a snapshot: decide, write, what-if, verify, repair, garbage.

Imports `dataset` and below."""

__all__ = [
    "acceptance",
    "column_cache",
    "compared_snapshots",
    "decisions",
    "garbage",
    "groups",
    "score_store",
    "vectors",
    "verification",
    "what_if",
    "writing",
]
