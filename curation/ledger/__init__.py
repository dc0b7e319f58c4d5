"""The commit protocol: plans, commit records, snapshots, score tables, and the models of all JSON documents.

Create-only puts decide every race; a commit never depends on a listing, a lock or a clock. Imports `shards` and
below."""

__all__ = [
    "attempts",
    "documents",
    "edit_lists",
    "edit_merging",
    "ledger",
    "lost_snapshots",
    "manifest_schema",
    "named_objects",
    "owners",
    "plans",
    "recipe_edits",
    "score_tables",
    "score_values",
    "snapshot_keys",
    "snapshots",
    "uid_lists",
    "unit_collector",
    "unreadable",
]
