"""Small parts that everything else stands on: types, errors, digests, intervals, threads, progress.

They import nothing from the other rooms, and neither torch nor Ray."""

__all__ = [
    "cache",
    "digest",
    "entry_points",
    "epochs",
    "errors",
    "hashes",
    "holdout",
    "intervals",
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
