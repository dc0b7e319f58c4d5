"""The commit protocol: plans, commit records, snapshots' documents, score tables, and the models of all documents.

Create-only puts decide; nothing here lists, locks or looks at a clock. Imports `shards` and below."""
