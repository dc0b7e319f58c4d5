"""The bench of online selection in small: each of its steps on a workload of a few made-up pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bench import online_selection
from bench.online import data, record, runs

from curation.models.batches import Examples

ROOT = Path(__file__).parents[2]
WORDS = ("sun", "moon", "star", "tree", "house", "boat", "fish", "bird")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight concepts, which differ in where a patch is bright; a tenth of the pool has wrong labels."""
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)

    def examples(count: int, wrong: float, source: str) -> Examples:
        kinds = generator.integers(0, len(WORDS), count)
        pixels = generator.integers(0, 60, (count, 64, 64, 3), np.uint8)
        for row, kind in enumerate(kinds):
            x, y = 16 * (kind % 4), 32 * (kind // 4)
            pixels[row, y : y + 16, x : x + 16] += 180
        named = np.where(generator.random(count) < wrong, generator.integers(0, len(WORDS), count), kinds)
        names = [WORDS[kind] for kind in named]
        return Examples(pixels, [f"a {name}" for name in names], [f"{source}:{row}" for row in range(count)], names)

    workload = data.Workload(examples(160, 0.1, "twemoji"), examples(60, 0, "trusted"), examples(40, 0, "test"))
    monkeypatch.setattr(data, "load", lambda name, held_out, folder: workload)
    arms = {
        workload: {name: replace(arm, reference_steps=4) for name, arm in named.items()}
        for workload, named in online_selection.ARMS.items()
    }
    monkeypatch.setattr(online_selection, "ARMS", arms)
    settings = {
        name: replace(setting, steps=8, short=4, learner="proxy-mu", batch=16, every=4)
        for name, setting in runs.SETTINGS.items()
    }
    monkeypatch.setattr(runs, "SETTINGS", settings)
    monkeypatch.setattr(runs, "REFERENCE_BATCH", 16)


def test_arms_can_be_listed_by_name() -> None:
    assert not any("," in name for named in online_selection.ARMS.values() for name in named)


@pytest.mark.parametrize("workload", ["pairs", "classes", "epochs", "long"])
def test_the_page_of_results_shows_the_recorded_runs(workload: str) -> None:
    page = (ROOT / "docs/results/online-selection.md").read_text()
    assert online_selection.figures(record.found(online_selection.ARMS), workload) in page


@pytest.mark.slow
def test_arms_are_run_once_and_reported(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Here:
        """A pool of processes that is this one, so that the small workload is seen."""

        def __init__(self, jobs: int, max_tasks_per_child: int) -> None: ...
        def __enter__(self) -> Here:
            return self

        def __exit__(self, *error: object) -> None: ...
        def submit(self, function, *arguments):  # type: ignore[no-untyped-def]
            from concurrent.futures import Future

            future = Future()  # type: ignore[var-annotated]
            future.set_result(function(*arguments))
            return future

    monkeypatch.setattr(online_selection, "ProcessPoolExecutor", Here)
    names = ("uniform", "learnability short", "joint short", "random sub-batch short")
    options = ["--arms", ",".join(names), "--seeds", "2", "--folder", str(tmp_path), "--no-record"]
    text = online_selection.main(options)
    assert len(list((tmp_path / "runs").glob("*.json"))) == 2 * (4 + 3)  # classes have no joint selection
    rows = [line for line in text.splitlines() if line.startswith("| learnability short | 2 |")]
    assert len(rows) == 2 and all("±" in row for row in rows)
    uniform = next(line for line in text.splitlines() if line.startswith("| uniform | 2"))
    assert "| 0.000 ± 0.000 | 2 of 2 | 0% ± 0 | 0% ± 0 | 0% ± 0 | 0% ± 0 |" in uniform
    assert (tmp_path / "curves-pairs-test.png").read_bytes().startswith(b"\x89PNG")

    def never(*arguments: object) -> None:
        raise AssertionError("a run was made again")

    monkeypatch.setattr(runs, "run", never)
    assert online_selection.main(options) == text
    assert online_selection.main([*options, "--cached"]) == text
