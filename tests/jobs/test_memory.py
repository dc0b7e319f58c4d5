"""The memory of a local run stays below its ceiling with ten times more shards, and with ten times larger ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from builders import write_recipe, write_weights
from memory_peaks import Peaks, peaks, write_photographs
from ranked_tables import ROWS, write_tables

from curation.curating.scoring.unit_scorer import UNCOMMITTED
from curation.review.queue import open_queue
from curation.shards.unit_reader import ROWS_PER_TABLE

FLAT = 1.05
BLOCK = 8 << 20  # bytes of a shard that are read at once
BATCH, SIDE, WRITERS = 64, 64, 2  # samples of a batch, pixels of a picture that a model sees, threads that write
KEPT_BY_ALLOCATORS = 1.05
RANKED = 450  # bytes of a sample in the decision engine, with its uid; below `compute.memory` in all
ROW = 2048  # bytes of a row of the index and its scores, with what Arrow allocates beyond it

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


def run(folder: Path, shards: int, samples: int) -> Peaks:
    """The peaks of a run over photographs, whose files are deleted."""
    write_photographs(folder / "pool", shards, samples)
    sha = write_weights(folder / "w.safetensors")
    filters = [{"caption": {"min_words": 2}}, {"top_fraction": {"score": "clip_score", "fraction": 0.5}}]
    compute = {"batch_size": BATCH, "max_actors": 1, "write_workers": WRITERS}
    recipe = write_recipe(folder / "r.yaml", str(folder / "pool"), str(folder / "out"), str(folder / "w.safetensors"),
                          sha, filters=filters, shards={"samples": 100}, compute=compute)  # fmt: skip
    found = peaks(recipe)
    shutil.rmtree(folder)
    return found


class Ceilings(NamedTuple):
    """The most that the processes of these recipes may take, in bytes: the formulas of docs/architecture.md.

    started: their peaks with 8 samples, which hold packages, models and a trial batch. rows: of the largest shard.
    """

    started: Peaks
    rows: int

    @property
    def driver(self) -> float:
        return KEPT_BY_ALLOCATORS * (self.started.driver + WRITERS * (3 * BLOCK + 2 * self.rows * ROW))

    @property
    def worker(self) -> float:
        tables = 3 * (BATCH + ROWS_PER_TABLE) * 3 * SIDE * SIDE
        return KEPT_BY_ALLOCATORS * (self.started.worker + 5 * BLOCK + tables + (UNCOMMITTED + 1) * self.rows * ROW)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Peaks:
    return run(tmp_path_factory.mktemp("started") / "run", 1, 8)


def test_ten_times_more_shards(started: Peaks, tmp_path: Path) -> None:
    """40 shards make calls of 10 units, as large corpora do: all threads that commit have worked."""
    base, more, most = run(tmp_path / "base", 40, 20), run(tmp_path / "more", 400, 20), Ceilings(started, 20)
    assert more.worker <= FLAT * base.worker
    assert more.driver <= most.driver and more.worker <= most.worker


@pytest.mark.parametrize("samples", [240, 2400])  # 24 MB, the least that fills the buffers of a reader, and 240 MB
def test_ten_times_larger_shards(started: Peaks, tmp_path: Path, samples: int) -> None:
    found, most = run(tmp_path / "run", 6, samples), Ceilings(started, samples)
    assert found.driver <= most.driver and found.worker <= most.worker


def test_ranking_five_times_more_samples_for_a_queue(tmp_path: Path) -> None:
    """No list of all uids is in the driver: a sample takes what the decision engine holds of it, until it spills."""

    def build(shards: int) -> int:
        root = tmp_path / str(shards)
        recipe = write_tables(root, shards)
        command = [
            sys.executable,
            str(Path(__file__).parents[1] / "ranked_tables.py"),
            str(recipe),
            str(root / "queue"),
        ]
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert open_queue(str(root / "queue")).items.num_rows == 100
        shutil.rmtree(root)
        return int(done.stdout.splitlines()[-1])

    few, many = build(20), build(100)
    assert many - few <= RANKED * 80 * ROWS
