"""Compare a dataset with the values recomputed from its inputs, and rebuild what differs.

    findings                the damage of one object, and its repair
    chain                   LATEST, and the documents of all snapshots
    plans                   the plan of a snapshot and its pages
    unreadable_shards       the list of shards that a snapshot was created without
    versions                software versions, which documents reference by digest
    comparison              a ledger that compares each object of a run with the stored one instead of writing it
    differences             descriptions of differences between stored and recomputed objects
    score_tables            score tables against the input shards, one unit at a time
    values                  one score table and its record
    recomputed_values       evidence for values that are stored twice
    write_units             commit records, output shards and manifest parts, one write unit at a time
    snapshot_document       the snapshot's document, its indexes and its lists
    evaluations             the evaluations of a snapshot
    model_scores            scores against the models
    unreferenced_documents  documents that the check of a snapshot does not read
    repairs                 writes of a repair, its record, and copies of what it replaced

`curate verify` and `curate repair` run the same checks in one pass; a repair writes the recomputed object where a check
finds a difference. Two things are trusted: the input shards, whose etags the plan pins, and values on which two objects
agree that no single edit changes, such as a score in its table and in the manifest, or the recipe and its two hashes.
Where these differ, nothing is overwritten until the models or a backup decide (`tests/jobs/test_trust.py` has all).
"""

__all__ = [
    "all_checks",
    "findings",
    "repairs",
    "verify",
]
