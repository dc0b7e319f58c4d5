"""Score units on the workers of an executor, whatever single samples do to a worker's process.

    dispatch     the driver: deals units to workers, and takes back what dead ones had
    suspects     the driver's record of units that processes died of, and how they are tried next
    scoring_task what to score and how, for every worker
    unit_scorer  the worker: decodes units, runs the models, commits tables
    isolation    one scorer over one batch: finds the samples that it fails for
    batches      from units to batches of one size
    black_box    a note of what a process has in work, which outlives it
    efficiency   where the workers' time went, and which stage was the limit
    watch        ends a process whose call takes too long

Imports `recipes`, `scorers`, `shards`, `ledger` and below; knows no engine but the protocol of `core.executor`.
"""

__all__ = [
    "batches",
    "black_box",
    "dispatch",
    "efficiency",
    "scoring_task",
    "unit_scorer",
]
