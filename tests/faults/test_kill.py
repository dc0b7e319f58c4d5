"""`kill -9` of the driver and of workers, in the middle of scoring and of writing; then the same command again.

Nothing may be lost or done twice in the result: `verify` passes and the shards' hashes equal an undisturbed run's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from builders import write_corpus, write_recipe, write_weights
from running import start

import curation as cu
from jobs.cli import _main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ENGINES = [pytest.param("local"), pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.soak])]
SCORERS = {
    "ray": "PoolActor",
    "local": "multiprocessing.forkserver",
}  # in a worker's command line; local: its server too
SHARDS = 14


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kill")
    write_corpus(root / "corpus", SHARDS, 60)
    sha = write_weights(root / "w.safetensors")
    write_recipe(
        root / "recipe.yaml", str(root / "corpus"), str(root / "calm"), str(root / "w.safetensors"), sha,
        compute={"batch_size": 32, "max_actors": 2, "write_workers": 1}, shards={"samples": 20},
    )  # fmt: skip
    assert curate(root, "calm", "local").wait() == 0
    return root


def curate(home: Path, out: str, engine: str) -> subprocess.Popen[bytes]:
    words = ["run", str(home / "recipe.yaml"), "--set", f"output={home / out}", "--executor", engine]
    return start(*words, log=home / f"{out}.log")


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    for _ in range(90_000):
        if condition():
            return
        assert process.poll() is None, "the run ended before it could be disturbed"
        time.sleep(0.01)
    raise AssertionError("the run got nowhere in fifteen minutes")


def records(folder: Path) -> int:
    return len(list(folder.glob("*.json"))) if folder.exists() else 0


def workers(driver: int, title: str) -> Iterator[int]:
    """Processes of the driver's session whose title holds `title`; Ray names its workers after their code."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name = (entry / "cmdline").read_bytes().decode(errors="replace")
                session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
            except (OSError, ValueError, IndexError):
                continue  # it ended while we looked
            if title in name and session == driver:
                yield int(entry.name)


def finished(home: Path, out: str, engine: str) -> None:
    """The same command again ends well, and the result is an undisturbed run's."""
    assert curate(home, out, engine).wait() == 0, (home / f"{out}.log").read_text()[-2000:]
    calm, shaken = cu.open(str(home / "calm")), cu.open(str(home / out))
    columns = ["sha256", "bytes", "samples"]
    assert shaken.shards.select(columns) == calm.shards.select(columns)
    assert shaken.document["samples"] == calm.document["samples"]
    # Of the manifest all but the shards' names, which no two puts have alike.
    left, right = (s.manifest.to_arrow().drop_columns(["output_shard"]) for s in (calm, shaken))
    assert isinstance(left, pa.Table) and left == right
    assert _main(["verify", str(home / out)]) == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_the_driver_dies_while_scoring_and_while_writing(engine: str, home: Path) -> None:
    out = home / f"driver-{engine}"
    run = curate(home, out.name, engine)
    wait_for(lambda: records(out / "scores" / "units") >= 4, run)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert records(out / "snapshots") == 0
    run = curate(home, out.name, engine)
    wait_for(lambda: records(out / "units") >= 2, run)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert records(out / "snapshots") == 0
    finished(home, out.name, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_workers_die_while_scoring_and_while_writing(engine: str, home: Path) -> None:
    out = home / f"worker-{engine}"
    run = curate(home, out.name, engine)
    killed = []
    wait_for(lambda: records(out / "scores" / "units") >= 3, run)
    for pid in workers(run.pid, SCORERS[engine]):
        os.kill(pid, signal.SIGKILL)
        killed.append("scorer")
    wait_for(lambda: records(out / "units") >= 1, run)
    for pid in workers(run.pid, "ray::_apply"):
        os.kill(pid, signal.SIGKILL)
        killed.append("writer")
    assert run.wait() == 0, (home / f"{out.name}.log").read_text()[-2000:]
    assert "scorer" in killed
    finished(home, out.name, engine)


@pytest.mark.ray
def test_on_ray_a_worker_dies_while_scoring_and_the_driver_while_writing(home: Path) -> None:
    """The two tests above in one, which starts Ray twice instead of five times."""
    out = home / "both-ray"
    run = curate(home, out.name, "ray")
    wait_for(lambda: records(out / "scores" / "units") >= 3, run)
    killed = [os.kill(pid, signal.SIGKILL) for pid in workers(run.pid, SCORERS["ray"])]
    wait_for(lambda: records(out / "units") >= 2, run)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert killed and records(out / "snapshots") == 0
    finished(home, out.name, "ray")
