"""Datasets as consumers read them: corpora, snapshots, manifests, loaders, sample weights and differences.

Start with `snapshot.open`. This room imports `recipes` and below, and does not curate.
"""

__all__ = [
    "corpus",
    "diff",
    "evaluations",
    "examples",
    "loader",
    "manifest",
    "open_shards",
    "quarantined",
    "random_subset",
    "sample_weights",
    "snapshot",
    "summary",
]
