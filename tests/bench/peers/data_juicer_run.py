"""Data-Juicer's `image_text_similarity_filter`, run by its default executor as `dj-process` runs it.

    python tests/bench/peers/data_juicer_run.py DATA.jsonl MODEL_FOLDER OUT.npz PROCESSES

It reads no tars outside Ray, so the bench unpacks the shards before the clock: a JSON line and an image file a sample.
It computes scores and no vectors.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}


def main(data: str, model: str, out: str, processes: str) -> None:
    from data_juicer.config import init_configs
    from data_juicer.core import DefaultExecutor
    from data_juicer.ops.filter import ImageTextSimilarityFilter

    with tempfile.TemporaryDirectory(dir=Path(out).parent) as folder:
        recipe = Path(folder) / "recipe.yaml"
        operator = {"hf_clip": model, "min_score": -1.0, "max_score": 1.0, "num_proc": int(processes)}
        settings = {
            "project_name": "bench", "dataset_path": data, "export_path": f"{folder}/out.jsonl", "np": int(processes),
            "use_cache": False, "open_tracer": False, "keep_stats_in_res_ds": True,
            "process": [{"image_text_similarity_filter": operator}],
        }  # fmt: skip
        recipe.write_text(json.dumps(settings))
        marks = Path(folder) / "marks"
        marks.mkdir()
        mark(ImageTextSimilarityFilter, marks)
        begun = time.time()
        DefaultExecutor(init_configs(["--config", str(recipe)])).run()
        scored = time.time()
        begun = min((float(path.read_text()) for path in marks.iterdir()), default=begun)
        rows = [json.loads(line) for line in Path(f"{folder}/out.jsonl").read_text().splitlines()]
    finish(rows, out, begun, scored)


def mark(operator: Any, marks: Path) -> None:
    """Have each process of the operator record when its first sample came, where the processes are forked."""
    score = operator.compute_stats_single

    def marked(self: Any, *arguments: Any, **options: Any) -> Any:
        path = marks / str(os.getpid())
        if not path.exists():
            path.write_text(str(time.time()))
        return score(self, *arguments, **options)

    operator.compute_stats_single = marked


def finish(rows: list[dict[str, Any]], out: str, begun: float, scored: float) -> None:
    """Save the scores and report."""
    import numpy as np

    born = float(os.environ["BENCH_BORN"])
    keys = [Path(row["images"][0]).stem for row in rows]
    scores = [row["__dj__stats__"]["image_text_similarity"][0] for row in rows]
    np.savez(out, keys=keys, scores=np.array(scores, np.float32))
    figures = {"samples": len(rows), "at": {"first_batch": begun - born, "scored": scored - born}}
    print(f"\n{json.dumps(figures)}", file=sys.__stdout__, flush=True)  # Data-Juicer sends sys.stdout to its log


if __name__ == "__main__":
    main(*sys.argv[1:])
