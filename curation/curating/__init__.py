"""Curate: from a corpus and score tables to a snapshot, and questions about it.

    run            all steps in order; pipeline: the steps; write_groups: what a decision is handed on as
    scoring        units through models on the workers of an executor
    decisions      filters over score tables; writing: shards and manifests
    what_if        what other settings would keep; verification: verify and repair; garbage: what may be deleted

Imports `dataset` and below. Knows no engine but the protocol of `core.executor`."""

__all__ = [
    "garbage",
    "groups",
    "pipeline",
    "run",
    "score_store",
    "vectors",
    "verification",
    "what_if",
    "what_if_questions",
]
