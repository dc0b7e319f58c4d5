"""The place of a module's tests: `tests/<its folder>/test_<its name>.py`, except for the modules listed here.

`python tests/mirror.py` lists the modules that have neither a file nor an entry.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: Module -> the test file that covers it: a protocol, a table or a part that only its neighbour uses.
TESTED_BY: dict[str, str] = {
    "actors/blocks.py": "actors/test_learning.py",
    "actors/choosers.py": "actors/test_learning.py",
    "actors/ray_cluster.py": "faults/test_broken_cluster.py",
    "actors/learners.py": "actors/test_learning.py",
    "actors/run_context.py": "actors/test_learning.py",
    "actors/submission.py": "jobs/commands/test_submit.py",
    "actors/train_driver.py": "actors/test_learning.py",
    "curation/core/executor.py": "contracts/test_executors.py",
    "curation/core/local_executor.py": "contracts/test_executors.py",
    "curation/core/local_pool.py": "contracts/test_executors.py",
    "curation/core/local_streams.py": "contracts/test_executors.py",
    "curation/core/yaml_text.py": "curation/recipes/test_yaml_document.py",
    "curation/annotators/annotator.py": "curation/annotators/test_annotators.py",
    "curation/annotators/people.py": "curation/annotators/test_annotators.py",
    "curation/annotators/recorded.py": "curation/annotators/test_annotators.py",
    "curation/annotators/simulated.py": "curation/annotators/test_annotators.py",
    "curation/annotators/vote_tables.py": "curation/annotators/test_annotators.py",
    "curation/curating/ranged_pictures.py": "jobs/commands/diagnose/test_trace.py",
    "curation/curating/scored_units.py": "jobs/commands/diagnose/test_trace.py",
    "curation/corpora/relabelled_shards.py": "curation/corpora/test_planted_cause.py",
    "curation/curating/ranged_texts.py": "jobs/commands/diagnose/test_types.py",
    "curation/diagnosis/collecting.py": "jobs/commands/diagnose/test_collect.py",
    "curation/diagnosis/doubted.py": "jobs/commands/diagnose/test_trace.py",
    "curation/diagnosis/drawn_gradients.py": "jobs/commands/diagnose/test_trace.py",
    "curation/diagnosis/erasing.py": "jobs/commands/diagnose/test_erase.py",
    "curation/diagnosis/retraining.py": "jobs/commands/diagnose/test_erase.py",
    "curation/diagnosis/finding_types.py": "jobs/commands/diagnose/test_types.py",
    "curation/diagnosis/type_queries.py": "jobs/commands/diagnose/test_types.py",
    "curation/diagnosis/type_tuning.py": "jobs/commands/diagnose/test_types.py",
    "curation/diagnosis/finding.py": "jobs/commands/diagnose/test_failures.py",
    "curation/diagnosis/judged_data.py": "jobs/commands/diagnose/test_failures.py",
    "curation/diagnosis/membership.py": "jobs/commands/diagnose/test_repair.py",
    "curation/diagnosis/outcomes.py": "jobs/commands/diagnose/test_repair.py",
    "curation/diagnosis/repair_samples.py": "jobs/commands/diagnose/test_repair.py",
    "curation/diagnosis/repairing.py": "jobs/commands/diagnose/test_repair.py",
    "curation/diagnosis/pictures.py": "curation/diagnosis/test_tuning.py",
    "curation/diagnosis/report.py": "jobs/commands/diagnose/test_report.py",
    "curation/diagnosis/subject.py": "jobs/commands/diagnose/test_trace.py",
    "curation/diagnosis/trace_document.py": "jobs/commands/diagnose/test_trace.py",
    "curation/diagnosis/trace_methods.py": "curation/diagnosis/test_trace.py",
    "curation/diagnosis/tracing.py": "jobs/commands/diagnose/test_trace.py",
    "curation/models/trained_classifier.py": "curation/scorers/test_gradient.py",
    "curation/scorers/features.py": "jobs/commands/diagnose/test_collect.py",
    "curation/scorers/prediction.py": "jobs/commands/diagnose/test_trace.py",
    "curation/curating/column_cache.py": "jobs/commands/test_what_if.py",
    "curation/curating/compared_snapshots.py": "jobs/test_own_dataset.py",
    "curation/curating/decision_results.py": "curation/curating/test_decisions.py",
    "curation/curating/groups.py": "jobs/commands/test_groups.py",
    "curation/curating/plan_decision.py": "jobs/test_acceptance.py",
    "curation/curating/record_spool.py": "curation/curating/test_pipeline.py",
    "curation/curating/planning.py": "curation/curating/test_pipeline.py",
    "curation/curating/sample_pool.py": "curation/curating/test_decisions.py",
    "curation/curating/score_store.py": "jobs/commands/test_scores.py",
    "curation/curating/scoring_passes.py": "jobs/commands/test_run.py",
    "curation/curating/snapshot_making.py": "curation/curating/test_pipeline.py",
    "curation/curating/tally.py": "curation/curating/test_decisions.py",
    "curation/curating/what_if_questions.py": "curation/test_public.py",
    "curation/curating/vectors.py": "jobs/commands/test_proxy.py",
    "curation/curating/verification/evaluations.py": "jobs/test_damages.py",
    "curation/curating/verification/snapshot_document.py": "jobs/test_damages.py",
    "curation/curating/verification/plans.py": "jobs/test_damages.py",
    "curation/curating/scoring/scoring_task.py": "curation/curating/scoring/test_unit_scorer.py",
    "curation/curating/verification/model_scores.py": "jobs/commands/test_verify.py",
    "curation/curating/verification/score_tables.py": "jobs/test_damages.py",
    "curation/curating/verification/subject.py": "jobs/commands/test_verify.py",
    "curation/curating/verification/write_units.py": "jobs/test_damages.py",
    "curation/dataset/evaluations.py": "jobs/commands/evaluate/test_documents.py",
    "curation/dataset/snapshot.py": "jobs/test_snapshot.py",
    "curation/curating/ranked_samples.py": "jobs/commands/test_review.py",
    "curation/review/candidates.py": "curation/review/test_verification.py",
    "curation/review/answer_csv.py": "curation/review/test_exchange.py",
    "curation/review/documents.py": "curation/review/test_queue.py",
    "curation/review/findings.py": "curation/review/test_verification.py",
    "curation/review/imports.py": "curation/review/test_exchange.py",
    "curation/review/label_studio.py": "curation/review/test_exchange.py",
    "curation/review/pictures.py": "curation/review/test_exchange.py",
    "curation/review/report_facts.py": "curation/review/test_report.py",
    "curation/review/samples.py": "curation/review/test_verification.py",
    "jobs/commands/review_answers.py": "jobs/commands/test_review.py",
    "curation/review/status.py": "curation/review/test_verification.py",
    "curation/evaluation/card.py": "curation/evaluation/test_evaluate.py",
    "curation/evaluation/job.py": "curation/evaluation/test_evaluate.py",
    "curation/evaluation/pairs.py": "curation/evaluation/test_evaluate.py",
    "curation/evaluation/protocol.py": "curation/evaluation/test_evaluate.py",
    "curation/evaluation/training.py": "curation/evaluation/test_evaluate.py",
    "curation/evaluation/trials.py": "curation/evaluation/test_evaluate.py",
    "curation/filters/filter.py": "curation/filters/test_filters.py",
    "curation/filters/hash_neighbours.py": "curation/filters/test_hamming.py",
    "curation/filters/hash_sets.py": "curation/filters/test_hamming.py",
    "curation/filters/mask_bits.py": "curation/filters/test_hamming.py",
    "curation/learners/kind.py": "curation/learners/test_learner.py",
    "curation/learners/training.py": "curation/learners/test_contrastive.py",
    "curation/learning/candidates.py": "curation/learning/test_data.py",
    "curation/learning/learn.py": "curation/learning/test_run.py",
    "curation/learning/metrics.py": "curation/learning/test_run.py",
    "curation/learning/model_flops.py": "curation/learning/test_flop_prices.py",
    "curation/learning/pinned_input.py": "curation/learning/test_data.py",
    "curation/learning/run_state.py": "curation/learning/test_run.py",
    "curation/learning/sources.py": "curation/learning/test_run.py",
    "curation/learning/summaries.py": "curation/learning/test_run.py",
    "curation/learning/timing.py": "curation/learning/test_run.py",
    "curation/ledger/documents/learning.py": "curation/ledger/test_documents.py",
    "curation/ledger/documents/ledger.py": "curation/ledger/test_documents.py",
    "curation/ledger/named_objects.py": "curation/storage/test_retry.py",
    "curation/ledger/snapshot_keys.py": "curation/ledger/test_lost_snapshots.py",
    "curation/ledger/software_records.py": "curation/core/test_software.py",
    "curation/models/classifier.py": "curation/learners/test_classification.py",
    "curation/models/fold_classifiers.py": "curation/evaluation/test_fold_training.py",
    "curation/models/bounded_tokenizer.py": "curation/models/test_tokenizer.py",
    "curation/models/shared_encoder.py": "curation/scorers/test_encoder.py",
    "curation/models/towers.py": "curation/models/test_dual.py",
    "curation/models/text_regions.py": "curation/scorers/test_text_masked_clip_score.py",
    "curation/recipes/findings.py": "curation/recipes/test_yaml_document.py",
    "curation/recipes/learning_checks.py": "curation/recipes/test_learning_recipe.py",
    "curation/recipes/learning_sections.py": "curation/recipes/test_learning_recipe.py",
    "curation/scorers/dfn.py": "jobs/test_dfn.py",
    "curation/scorers/label.py": "curation/scorers/test_label_values.py",
    "curation/scorers/label_error.py": "curation/scorers/test_posterior.py",
    "curation/scorers/label_posterior.py": "curation/scorers/test_posterior.py",
    "curation/scorers/embedding.py": "curation/scorers/test_encoder.py",
    "curation/scorers/scorer.py": "curation/scorers/test_scorers.py",
    "curation/selection/policy_replay.py": "curation/selection/test_policy.py",
    "curation/selection/policy_writer.py": "curation/selection/test_policy.py",
    "curation/selection/pool_blocks.py": "curation/selection/test_pool.py",
    "curation/selectors/replay.py": "curation/selectors/test_selectors.py",
    "curation/selectors/selection_settings.py": "curation/recipes/test_learning_recipe.py",
    "curation/selectors/selector.py": "curation/selectors/test_selectors.py",
    "curation/shards/webdataset_io.py": "curation/core/test_epochs.py",
    "curation/storage/backend.py": "curation/storage/test_store.py",
    "curation/storage/local_files.py": "curation/storage/test_local_store.py",
    "jobs/commands/diagnose/arguments.py": "jobs/commands/diagnose/test_diagnose.py",
    "jobs/commands/evaluate.py": "jobs/commands/evaluate/test_arms.py",
    "jobs/commands/repair.py": "jobs/test_advice.py",
    "jobs/commands/review_page.py": "jobs/console/test_server.py",
    "jobs/demo/__main__.py": "jobs/test_readme.py",
    "jobs/pages/curves.py": "jobs/commands/test_learn.py",
    "jobs/pages/diagnosis_report.py": "jobs/commands/diagnose/test_report.py",
    "jobs/pages/groups.py": "jobs/pages/test_pages.py",
    "jobs/pages/matches.py": "jobs/pages/test_pages.py",
    "jobs/pages/rendering.py": "jobs/pages/test_pages.py",
    "jobs/pages/sample_pictures.py": "jobs/pages/test_review_report.py",
    "jobs/pages/what_if.py": "jobs/pages/test_pages.py",
}


#: Modules with neither. Only ever lowered: a new module brings its tests, or a line above.
MOST_UNTESTED = 20


def modules() -> list[str]:
    """Modules of the three packages, as paths from the root; a folder's `__init__.py` is tested with its table."""
    found = (path for name in ("curation", "actors", "jobs") for path in (ROOT / name).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found if path.name != "__init__.py")


def own_file(module: str) -> Path:
    """The test file that a module has by its name."""
    path = Path(module)
    return ROOT / "tests" / path.parent / f"test_{path.stem}.py"


def untested() -> list[str]:
    """Modules with neither a test file of their own nor an entry in `TESTED_BY`."""
    return [module for module in modules() if not own_file(module).exists() and module not in TESTED_BY]


if __name__ == "__main__":
    own = sum(own_file(module).exists() for module in modules())
    print(*untested(), sep="\n")
    print(f"{len(modules())} modules: {own} with a file of their own, {len(TESTED_BY)} tested by another one")
