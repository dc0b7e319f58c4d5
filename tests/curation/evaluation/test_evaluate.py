"""`cu.evaluate` and `cu.learn` run whole in one process, without Ray; on workers, models are the same."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from builders import PLAIN, write_corpus, write_recipe
from running import curate

from curation.core.executor import Resources, WorkerDiedError
from curation.evaluation import evaluate as evaluation
from curation.evaluation.evaluate import DEATHS, run_trials

PROGRAM = """
import sys
import curation as cu
from curation.learners.training import Training

root = sys.argv[1]
found = cu.evaluate(f"{root}/out", f"{root}/test", model="proxy-mu", training=Training(steps=2, batch=8), seeds=1,
                    raw=False, random=False, device="cpu")
assert found.judged == 1 and found.documents[0]["arms"]["curated"]["runs"][0]["samples_seen"] == 16
summary = cu.learn(f"{root}/learn.yaml")
assert summary["steps"] == 2 and not summary["reused"] and cu.learn(f"{root}/learn.yaml")["reused"]
assert not [name for name in sys.modules if name.partition(".")[0] in ("ray", "actors", "jobs")]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "corpus", 2, 30, flaws=False)
    write_corpus(tmp_path / "test", 1, 24, flaws=False)
    curate(write_recipe(tmp_path / "r.yaml", f"{tmp_path}/corpus", f"{tmp_path}/out", "", "", **PLAIN))
    (tmp_path / "learn.yaml").write_text(
        f"data: {tmp_path}/out\noutput: {tmp_path}/learned\nholdout: 0.3\n"
        "learner: {contrastive: {model: proxy-mu, steps: 2, batch: 8}}\n"
    )
    return tmp_path


@pytest.mark.slow
def test_in_python_no_ray_is_imported(root: Path) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM, str(root)], check=True)


class Dying:
    """An executor with room for two workers, whose processes die `deaths` times in all."""

    name = "dying"

    def __init__(self, deaths: int) -> None:
        self.deaths, self.done = deaths, Counter[Any]()

    def capacity(self) -> Resources:
        return Resources(2)

    def pool(self, factory: Callable[[Any], Any], share: Resources) -> Dying:
        self.workers = 0
        return self

    def __enter__(self) -> Dying:
        return self

    def __exit__(self, *error: object) -> None: ...

    def start(self) -> int:
        self.workers += 1
        return self.workers

    def submit(self, worker: int, method: str, one: Any) -> Any:
        return one, object()

    def wait(self, calls: Sequence[Any]) -> Sequence[Any]:
        return calls[-1:]

    def result(self, call: Any) -> None:
        if self.deaths:
            self.deaths -= 1
            raise WorkerDiedError("it died")
        self.done[call[0].number] += 1


class Model:
    """A trial, as far as the workers' loop knows it."""

    held_out = None

    class job:
        model, threads, device = "proxy-mu", 1, "cpu"

    def __init__(self, number: int) -> None:
        self.number = number


@pytest.mark.parametrize("deaths", [0, 1, DEATHS])
def test_a_model_whose_process_died_is_trained_again(monkeypatch: pytest.MonkeyPatch, deaths: int) -> None:
    monkeypatch.setattr(evaluation, "held_out_examples", lambda *_: None)
    executor, ticks = Dying(deaths), list[int]()
    run_trials([Model(number) for number in range(5)], executor, None, ticks.append)  # type: ignore[misc, arg-type]
    assert executor.done == dict.fromkeys(range(5), 1) and ticks == [1] * 5 and executor.workers == 2


def test_a_model_that_kills_every_process_ends_the_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "held_out_examples", lambda *_: None)
    with pytest.raises(WorkerDiedError):
        run_trials([Model(0), Model(1)], Dying(DEATHS + 1), None, lambda n: None)  # type: ignore[list-item, arg-type]
