"""What a consumer reads: corpora, snapshots, manifests, loaders, sample weights, differences.

`snapshot.open` is where to begin. Imports `recipes` and below; nothing here curates."""

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
