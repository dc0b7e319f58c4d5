"""Our side: whole `curate run`s on either executor, and what else is timed of a finished dataset."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp

from bench.measure import Measured, measure
from bench.throughput.places import Place
from bench.throughput.workloads import Workload

HERE = Path(__file__).parent
MARKED = [sys.executable, str(HERE / "curate_run.py")]
CURATE = [sys.executable, "-m", "jobs.cli"]


@dataclass(frozen=True)
class Dataset:
    """A recipe and what it made. `folder` holds the recipe; scores and output are at `output`."""

    recipe: Path
    output: str
    executor: str
    env: dict[str, str]

    def run(self, *overrides: str) -> Measured:
        """Measure one `curate run`, with marks."""
        marks = Path(mkdtemp(dir=self.recipe.parent))
        words = ["run", str(self.recipe), "--executor", self.executor, *(f"--set={item}" for item in overrides)]
        return measure([*MARKED, str(marks), *words], self.env)


def dataset(workload: Workload, place: Place, weights: Path, executor: str, folder: Path) -> Dataset:
    """Write a recipe that scores the shards of `place`, keeps the better half, and writes it."""
    output = f"{place.root.partition('/corpora/')[0]}/{folder.name}" if "://" in place.root else str(folder / "out")
    model = {"model": workload.model, "weights": str(weights), "sha256": sha256_of(weights)}
    recipe = {
        "corpus": [f"{place.root}/{key}" for key in place.keys],
        "output": output,
        "scorers": [{"clip_score": model}, {"embedding": model}],
        "compute": {"batch_size": workload.batch},
        "filters": [{"top_fraction": {"score": "clip_score", "fraction": 0.5}}],
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    return Dataset(path, output, executor, place.env)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, which is read once a process."""
    if path not in _HASHES:
        _HASHES[path] = sha256(path.read_bytes()).hexdigest()
    return _HASHES[path]


_HASHES: dict[Path, str] = {}


def figures(run: Measured) -> dict[str, float]:
    """Return the figures of one whole run: as a peer's, and where its time went."""
    n, at = run.said["samples"], run.said["at"]
    shared = common(run, n, at["first_batch"], at["score_units ends"])
    write = at["write_groups ends"] - at["write_groups begins"]
    return {**shared, "to tables": n / at["score_units ends"], "write s": write, "workers": run.said["workers"]}


def common(run: Measured, samples: int, first_batch: float, scored: float) -> dict[str, float]:
    """Return the figures that every arm has. `overhead`: seconds of the run that are not steady."""
    steady = samples / (scored - first_batch)
    return {
        "samples": samples, "seconds": run.seconds, "steady": steady, "end to end": samples / run.seconds,
        "start-up": first_batch, "overhead": run.seconds - samples / steady, "cpu": run.cpu / samples * 1e3,
        "pss": run.pss / 1e9,
    }  # fmt: skip


def extras(made: Dataset, corpus: list[Path]) -> dict[str, float]:
    """Time what follows a run on local disk: nothing to do, a new threshold, verify, and their limits."""
    out = Path(made.output)
    nothing = made.run()
    written = list(out.rglob("*.tar"))
    before = set(written)
    figures = {"nothing s": nothing.seconds, "nothing cpu": nothing.cpu, "copy s": copied(written, made.recipe.parent)}
    threshold = made.run("filters.0.top_fraction.fraction=0.4")
    figures |= {"threshold s": threshold.seconds, "threshold cpu": threshold.cpu}
    verify = measure([*CURATE, "verify", made.output, "--executor", "local"], made.env)
    files = [*corpus, *(path for path in out.rglob("*") if path.is_file() and path not in before)]
    read, hashed = reading(files)
    return figures | {"verify s": verify.seconds, "verify cpu": verify.cpu, "read s": read, "hash s": hashed}


def copied(files: list[Path], folder: Path) -> float:
    """Return the seconds in which `cp` copies files, as the write stage's limit."""
    target = Path(mkdtemp(dir=folder))
    listed = target / "files"
    listed.write_text("".join(f"{path}\0" for path in files))
    began = time.perf_counter()
    subprocess.run(["xargs", "-0", "-a", str(listed), "cp", "--backup=numbered", "-t", str(target)], check=True)
    took = time.perf_counter() - began
    shutil.rmtree(target)
    return took


def reading(files: list[Path]) -> tuple[float, float]:
    """Return the seconds to read files, and to read and hash them, a thread a core."""
    took = []
    for work in (lambda path: len(path.read_bytes()), lambda path: sha256(path.read_bytes()).digest()):
        began = time.perf_counter()
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for _ in pool.map(work, files):
                pass
        took.append(time.perf_counter() - began)
    return took[0], took[1]


def scores(made: Dataset) -> dict[str, float]:
    """Return the clip_score of every sample of a dataset, by its key."""
    import curation as cu

    table = cu.open(made.output).manifest.to_arrow(["key", "clip_score"])
    return dict(zip(table.column("key").to_pylist(), table.column("clip_score").to_pylist(), strict=True))
