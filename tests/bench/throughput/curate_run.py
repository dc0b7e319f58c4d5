"""`curate run` with marks: when the first worker got its units, when the tables, the shards, the snapshot were there.

    python tests/bench/throughput/curate_run.py MARKS run recipe.yaml [--executor local|ray]

MARKS: an empty folder. The command is the user's own; three steps of the pipeline and the worker's class are wrapped.
Prints one line of JSON: the samples, and seconds from the start of the process to each event.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

BORN = float(os.environ["BENCH_BORN"])
at: dict[str, float] = {}
results: dict[str, Any] = {}


def mark(module: ModuleType, function: str) -> None:
    """Replace a step of the pipeline by one that notes when it began and ended, and what it returned."""
    step: Callable[..., Any] = getattr(module, function)

    def wrapper(*arguments: Any, **options: Any) -> Any:
        at[f"{function} begins"] = time.time() - BORN
        results[function] = step(*arguments, **options)
        at[f"{function} ends"] = time.time() - BORN
        return results[function]

    setattr(module, function, wrapper)


def main(folder: str, *words: str) -> None:
    from curation.curating import scoring_passes, snapshot_making
    from curation.curating.scoring import dispatch
    from jobs.cli import cli

    marks = Path(folder)

    class MarkedWorker(dispatch.ScoringWorker):  # records when each worker got its first units
        mark: Path | None = None

        def score(self, *call: Any) -> Any:
            if self.mark is None:
                self.mark = marks / str(os.getpid())
                self.mark.write_text(str(time.time()))
            return super().score(*call)

    dispatch.ScoringWorker = MarkedWorker  # type: ignore[misc]
    mark(scoring_passes, "score_units")
    mark(snapshot_making, "write_groups")
    mark(snapshot_making, "create_snapshot")
    cli.main(list(words), standalone_mode=False)
    made = results.get("create_snapshot")
    starts = sorted(float(path.read_text()) for path in marks.iterdir())
    if starts:
        at["first_batch"] = starts[0] - BORN
    print(json.dumps({"samples": made["samples"]["seen"] if made else 0, "workers": len(starts), "at": at}))


if __name__ == "__main__":
    main(*sys.argv[1:])
