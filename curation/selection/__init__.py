"""Online selection: super-batches, the choice of sub-batches, data policies, and the ledger of compute.

`online` is the definition, in one process. Imports `curating` and below."""

__all__ = [
    "checkpoint",
    "feed",
    "flops",
    "online",
    "policy",
    "pool",
]
