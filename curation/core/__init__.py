"""The base of every other room: types, errors, digests, confidence intervals, threads, progress, the executor protocol.

Imports no other room, and neither torch (except `epochs`) nor Ray."""

__all__ = [
    "allocation",
    "cache",
    "deadline",
    "digest",
    "distributions",
    "entry_points",
    "epochs",
    "errors",
    "executor",
    "folds",
    "hashes",
    "holdout",
    "intervals",
    "local_executor",
    "origins",
    "paired_hits",
    "parallel",
    "printable",
    "progress",
    "ranges",
    "skipped",
    "software",
    "types",
    "words",
    "yaml_text",
]
