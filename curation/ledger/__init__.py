"""The commit protocol: plans, commit records, snapshots' documents, score tables, and the models of all documents.

Create-only puts decide; nothing here lists, locks or looks at a clock. Imports `shards` and below."""

__all__ = [
    "attempts",
    "documents",
    "ledger",
    "manifest_schema",
    "owners",
    "score_tables",
    "snapshot_numbers",
    "uid_lists",
    "unreadable",
]
