"""Review: queues of samples whose labels are doubtful, the answers of reviewers, and what follows from them.

A queue is a folder at any store URL (`queue`): its document, its items in rank order, and one create-only record for
each answer, so that two reviewers, a killed server and a repeated import lose and double nothing. `votes` defines when
an item is answered; `status`, `report`, `verification` and the exports read all answers once, 1,000 items at a time.
This room reads no score tables: `curation.curating.ranked_samples` ranks, `candidates` makes items of what was ranked,
and `reranking` ranks the items left after some answers (`orders`), by classifiers fine-tuned on them.
"""

__all__ = [
    "answer_csv",
    "answer_curve",
    "candidates",
    "corrections",
    "documents",
    "imports",
    "label_studio",
    "orders",
    "pictures",
    "queue",
    "report",
    "report_facts",
    "reranking",
    "rounds",
    "samples",
    "session",
    "status",
    "verification",
]
