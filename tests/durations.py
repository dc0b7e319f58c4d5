"""The durations of test files: the longest run first.

A pytest-xdist worker takes a whole file (`--dist loadfile`), and one that comes last leaves the other worker without
work. Seconds of one process, measured on two busy cores; files that are missing here take less than 30.
"""

from __future__ import annotations

SECONDS = {
    "actors/test_learning.py": 420,
    "faults/test_kill.py": 330,
    "jobs/test_readme.py": 100,
    "faults/test_poison.py": 150,
    "curation/models/test_compiled.py": 50,
    "jobs/test_damages.py": 50,
    "faults/test_broken_cluster.py": 100,
    "jobs/commands/test_run.py": 90,
    "jobs/commands/test_submit.py": 80,
    "faults/test_kill_learn.py": 50,
    "jobs/test_wrong_shapes.py": 60,
    "jobs/test_advice.py": 60,
    "jobs/commands/test_verify.py": 60,
    "jobs/commands/evaluate/test_arms.py": 60,
    "curation/filters/test_filters.py": 60,
    "curation/core/test_epochs.py": 50,
    "bench/test_recipes.py": 45,
    "curation/learning/test_run.py": 40,
    "contracts/test_engines.py": 40,
    "curation/learning/test_blocks.py": 30,
    "jobs/test_snapshot.py": 30,
    "curation/models/test_plain_clip.py": 30,
}
