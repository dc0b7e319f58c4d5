"""Runs of learners: from a recipe of online selection to weights, metrics, a data policy and the ledger of compute.

`learn` is a whole run in this process. The models are in `curation.learners`, the choice of sub-batches in
`curation.selection`, uniform trainings for comparing datasets in `curation.evaluation`. Imports `selection` and below.
"""

__all__ = [
    "blocks",
    "candidates",
    "comparison",
    "data",
    "leakage_check",
    "learn",
    "model_flops",
    "participants",
    "pinned_input",
    "run",
    "sources",
    "summaries",
]
