"""The durations of test files: the longest run first.

A pytest-xdist worker takes a whole file (`--dist loadfile`), and one that comes last leaves the other worker without
work. Seconds of one process, measured on two busy cores; files that are missing here take less than 30.
"""

from __future__ import annotations

SECONDS = {
    "actors/test_learning.py": 600,
    "jobs/test_damages.py": 250,
    "faults/test_kill.py": 230,
    "jobs/commands/test_submit.py": 230,
    "faults/test_poison.py": 110,
    "curation/learning/test_run.py": 40,
    "faults/test_broken_cluster.py": 75,
    "faults/test_kill_learn.py": 70,
    "jobs/test_snapshot.py": 70,
    "jobs/commands/test_run.py": 60,
    "jobs/test_readme.py": 60,
    "jobs/test_wrong_shapes.py": 60,
    "jobs/commands/test_verify.py": 50,
    "curation/filters/test_filters.py": 45,
    "bench/test_recipes.py": 45,
    "jobs/commands/evaluate/test_arms.py": 40,
    "jobs/test_advice.py": 40,
    "curation/selection/test_checkpoint.py": 35,
    "curation/core/test_epochs.py": 30,
    "curation/learning/test_blocks.py": 30,
    "curation/storage/test_object_store.py": 30,
    "jobs/commands/test_scores.py": 30,
}
