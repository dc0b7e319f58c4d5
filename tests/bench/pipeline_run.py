"""Our side of the bench, in one process: the scoring part of `curate run`, into empty score tables.

    python tests/bench/pipeline_run.py recipe.yaml

Prints one line of JSON: the samples, and the seconds from the start of the process to each event.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main(path: str) -> None:
    born = float(os.environ["BENCH_BORN"])
    from actors.ray_cluster import ray_cluster
    from actors.ray_executor import RayExecutor
    from curation.curating import planning, scoring_passes
    from curation.curating.pipeline import pipeline
    from curation.curating.scoring import dispatch
    from curation.recipes.curation_recipe import load_recipe

    marks = Path(path).parent / "marks"
    marks.mkdir()

    class Marked(dispatch.ScoringWorker):  # records when each worker got its first units
        mark: Path | None = None

        def score(self, *call: Any) -> Any:
            if self.mark is None:
                self.mark = marks / str(os.getpid())
                self.mark.write_text(str(time.time()))
            return super().score(*call)

    dispatch.ScoringWorker = Marked  # type: ignore[misc]
    at: dict[str, float] = {}
    samples = 0

    def tick(n: int) -> None:
        nonlocal samples
        samples += n
        at.setdefault("first_unit", time.time() - born)

    with pipeline(load_recipe(path)) as work:
        units = planning.missing_units(work, planning.make_plan(work))
        at["planned"] = time.time() - born
        with ray_cluster():
            at["ray"] = time.time() - born
            scoring_passes.score_units(work, units, tick, RayExecutor())
            at["scored"] = time.time() - born
    starts = sorted(float(mark.read_text()) for mark in marks.iterdir())
    at["first_batch"] = starts[0] - born
    at["last_actor"] = starts[-1] - born
    at["stopped"] = time.time() - born
    print(json.dumps({"samples": samples, "at": at, "actors": len(starts), "batches": work.counts.model_batches}))


if __name__ == "__main__":
    main(sys.argv[1])
