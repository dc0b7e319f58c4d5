"""`kill -9` of Ray's own processes below a run: the agent of its node, the raylet, the GCS. The run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import write_corpus, write_recipe

import curation as cu

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
SHARDS = 12


def processes(driver: int, title: str) -> Iterator[int]:
    """Living processes of the driver's session whose command line holds `title`."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            name = (entry / "cmdline").read_bytes().decode(errors="replace")
        except (OSError, IndexError):
            continue
        if title in name and int(fields[3]) == driver and fields[0] != "Z":
            yield int(entry.name)


def told_of(log: Path) -> int:
    """Return how many lost clusters the run reported."""
    return log.read_text().count("starting another one to continue")


@pytest.mark.parametrize(
    "victims",
    [
        ["/raylet/raylet"],
        pytest.param(["ray::RuntimeEnvAgent", "/raylet/raylet", "/gcs/gcs_server"], marks=pytest.mark.soak),
    ],
    ids=len,
)
def test_a_local_cluster_that_breaks_is_replaced_and_the_run_goes_on(victims: list[str], tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", SHARDS, 20, flaws=False)
    slow = [{"slow_words": {}}]
    recipe = write_recipe(
        tmp_path / "r.yaml", f"{tmp_path}/corpus", f"{tmp_path}/out", "", "", scorers=slow, filters=[],
        compute={"batch_size": 20, "max_actors": 1},
    )  # fmt: skip
    records, log = tmp_path / "out" / "scores" / "units", tmp_path / "log"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent.parent)])}
    with log.open("wb") as file:
        command = [sys.executable, "-m", "poisonous", "run", "--executor", "ray", str(recipe)]
        run = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True, env=environment)
    done = killed = 0
    for victim in victims:
        deadline, told = time.monotonic() + 300, killed
        while told_of(log) < told or not records.exists() or (count := len(list(records.glob("*.json")))) <= done:
            if run.poll() is not None or time.monotonic() > deadline:
                pytest.fail(log.read_text()[-3000:])
            time.sleep(0.02)
            if told_of(log) < told and records.exists():
                done = len(list(records.glob("*.json")))  # the next one to appear is of the new cluster
        pids = list(processes(run.pid, victim))
        assert len(pids) == 1, pids
        os.kill(pids[0], signal.SIGKILL)
        done, killed = count, killed + 1
    assert run.wait(600) == 0, log.read_text()[-3000:]
    said = log.read_text()
    assert told_of(log) == killed == len(victims), said[-3000:]
    assert "Traceback" not in said and "raylet)" not in said, said[-3000:]
    assert cu.open(f"{tmp_path}/out").document["samples"]["kept"] == SHARDS * 20
    assert len(list(records.glob("*.json"))) == 2 * SHARDS
