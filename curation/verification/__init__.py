"""Compare a dataset with what is recomputed from its inputs, and rebuild what differs.

    findings     what is wrong with one object, and what can be done about it
    chain        LATEST, and the documents of all snapshots
    planned      the plan of a snapshot and its pages
    comparison   a ledger that puts nothing: each object that a run would put is compared with the one that is there
    differences  how one object differs from what it should be, in a few words
    scored       score tables against the input shards, one unit at a time
    written      commit records, output shards and manifest parts, one write unit at a time
    described    the snapshot's document, its indexes and lists
    attached     the evaluations of a snapshot
    rescored     scores against the models
    loose        documents that no check of a snapshot reads
    repairs      the record of a repair, and copies of what it replaced

`curate verify` and `curate repair` are one pass over the same checks; a repair puts what was recomputed where a check
finds a difference. Nothing stored is trusted but the input shards, whose etags the plan pins, and the recipe.
"""
