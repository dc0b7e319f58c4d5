"""Compare a dataset with what is recomputed from its inputs, and rebuild what differs.

    findings     what is wrong with one object, and what can be done about it
    chain        LATEST, and the documents of all snapshots
    planned      the plan of a snapshot and its pages
    unread       the list of shards that a snapshot was made without
    versions     versions of software, which documents name by digests
    comparison   a ledger that puts nothing: each object that a run would put is compared with the one that is there
    differences  how one object differs from what it should be, in a few words
    scored       score tables against the input shards, one unit at a time
    values       one score table and its record
    settled      which values that are stored twice have been recomputed
    written      commit records, output shards and manifest parts, one write unit at a time
    described    the snapshot's document, its indexes and lists
    attached     the evaluations of a snapshot
    rescored     scores against the models
    loose        documents that no check of a snapshot reads
    repairs      the record of a repair, and copies of what it replaced

`curate verify` and `curate repair` are one pass over the same checks; a repair puts what was recomputed where a check
finds a difference. Trusted are the input shards, whose etags the plan pins, and values that two objects agree on which
no one edit changes: a score in its table and in the manifest, the recipe and its two hashes. Where these differ,
nothing is overwritten until the models or a backup decide (`tests/jobs/test_trust.py` lists all of it).
"""

__all__ = [
    "all_checks",
    "findings",
    "repairs",
    "verify",
]
