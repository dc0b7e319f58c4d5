"""Curate: from a corpus and score tables to a snapshot, and questions about it.

    run            all steps in order, on a recipe whose stores `pipeline` has opened:
                   planning, scoring_passes, plan_decision, snapshot_making
    scoring        units through models on the workers of an executor
    sample_pool    columns of score tables in a database; decisions: filters over them; decision_results: the outcome
    write_groups   decisions as units of writing; writing: shards and manifests
    ranked_samples what the filters keep, by a score: for a review queue
    scored_units   scores without a snapshot; ranged_pictures: pictures of single samples
    what_if        what other settings would keep; verification: verify and repair; garbage: what may be deleted

Imports `dataset` and below. Knows no engine but the protocol of `core.executor`."""

__all__ = [
    "added_samples",
    "edit_report",
    "garbage",
    "groups",
    "pipeline",
    "plan_decision",
    "planning",
    "ranged_pictures",
    "ranged_texts",
    "ranked_samples",
    "run",
    "score_store",
    "scored_units",
    "scoring_passes",
    "stale_edits",
    "vectors",
    "verification",
    "what_if",
    "what_if_questions",
]
