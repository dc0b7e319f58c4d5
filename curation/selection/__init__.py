"""Online selection: super-batches drawn from pools, sub-batches chosen from them, data policies, the ledger of compute.

`online` is the definition, in one process. The rules that choose are in `curation.selectors`; runs with recipe, record
and summary are in `curation.learning`. Imports `dataset` and below.
"""

__all__ = [
    "checkpoint",
    "feed",
    "flops",
    "online",
    "policy",
    "policy_replay",
    "policy_writer",
    "pool",
    "pool_blocks",
]
