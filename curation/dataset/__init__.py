"""What a consumer reads: corpora, snapshots, manifests, loaders, sample weights, differences.

`snapshot.open` is where to begin. Imports `recipes` and below; nothing here curates."""
