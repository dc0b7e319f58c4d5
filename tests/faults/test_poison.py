"""Samples that end, hang or fail the process that scores or decodes them: each is quarantined alone.

A run whose driver is killed in the middle of isolating them, then the same command again.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import running
from builders import members, write_recipe

import curation as cu
from curation.shards.tar_writer import TarWriter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ENGINES = [pytest.param("local"), pytest.param("ray", marks=pytest.mark.ray)]
WAYS = [pytest.param("local", 0), pytest.param("local", 2), pytest.param("ray", 0, marks=pytest.mark.ray)]
DEEDS = {  # of one sample in each shard; a process in the place of a dead one takes Ray ten times as long
    "local": ["exit", "raise", "crash", "hang", "leave", "decode", "raise", "leave"],
    "ray": ["exit", "hang"],
}
N = 24  # so that one poisoned sample in a shard is less than limits.max_quarantined, 5 %


def write_pool(root: Path, deeds: Sequence[str]) -> dict[str, str]:
    """A shard for each of `deeds`; returns deed by key of the sample."""
    root.mkdir()
    found = {}
    for shard, deed in enumerate(deeds):
        poisoned = (5 * shard + 3) % N
        with (root / f"{shard:05d}.tar").open("wb") as file:
            writer = TarWriter(file)
            for name, data in members(shard, N, flaws=False):
                key, _, extension = name.partition(".")
                if key.endswith(f"-{poisoned:04d}") and extension != "json":
                    found[key] = deed
                    text = f"poison: {deed}".encode()
                    if deed == "decode" and extension != "txt":
                        data += text
                    elif deed != "decode" and extension == "txt":
                        data = text
                writer.add(name, data)
            writer.close()
    return found


start = partial(running.start, module="poisonous")


@pytest.mark.parametrize(("engine", "tasks"), WAYS)
def test_a_sample_that_ends_processes_costs_itself_alone(engine: str, tasks: int, tmp_path: Path) -> None:
    """Also where it is decoded ahead of the worker, in a process of its own."""
    deeds = write_pool(tmp_path / "pool", DEEDS[engine])
    recipe = write_recipe(
        tmp_path / "r.yaml", f"{tmp_path}/pool", f"{tmp_path}/out", "", "",
        scorers=[{"poisonous": {}}, {"caption_stats": {}}],
        filters=[{"caption": {"min_words": 1}}],
        compute={"batch_size": 16, "max_actors": 2, "batch_timeout": 15, "decode_tasks": tasks},
    )  # fmt: skip
    log, attempts = tmp_path / "log", tmp_path / "out" / "scores" / "attempts"
    run, deadline = start("run", "--executor", engine, str(recipe), log=log), time.monotonic() + 300
    while not attempts.exists() or len(list(attempts.rglob("*.json"))) < 3:
        if run.poll() is not None or time.monotonic() > deadline:
            pytest.fail(log.read_text()[-3000:])
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert start("run", "--executor", engine, str(recipe), log=log).wait(600) == 0, log.read_text()[-3000:]
    said = log.read_text()
    assert "Traceback" not in said, said[-3000:]

    snapshot = cu.open(f"{tmp_path}/out")
    reasons = {"hang": "poison_hung", "raise": "poison_raised"}
    rows = snapshot.manifest.to_arrow().to_pylist()
    aside = {row["key"]: row["reason"] for row in rows if row["decision"] == "quarantined"}
    assert aside == {key: reasons.get(deed, "poison_died") for key, deed in deeds.items()}
    assert len(rows) == N * len(deeds) == snapshot.document["samples"]["kept"] + len(deeds)
    captions = {
        name.partition(".")[0]: len(data)
        for shard in range(len(deeds))
        for name, data in members(shard, N, flaws=False)
        if name.endswith(".txt")
    }
    for row in rows:
        assert row["poisonous"] == (None if row["key"] in deeds else captions[row["key"]])

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    again = tmp_path / "again"
    assert start("run", "--executor", engine, str(recipe), "--json", log=again).wait(300) == 0
    work = json.loads(again.read_text())
    assert (work["data_puts"], work["model_batches"]) == (0, 0)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    checked = tmp_path / "verify"
    assert start("verify", f"{tmp_path}/out", log=checked).wait(300) == 0, checked.read_text()[-3000:]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_scorer_that_fails_for_everything_ends_the_run_with_a_line(engine: str, tmp_path: Path) -> None:
    write_pool(tmp_path / "pool", DEEDS["local"])
    recipe = write_recipe(
        tmp_path / "r.yaml", f"{tmp_path}/pool", f"{tmp_path}/out", "", "",
        scorers=[{"poisonous": {"fails": True}}], filters=[], compute={"max_actors": 1},
    )  # fmt: skip
    log = tmp_path / "log"
    assert start("run", "--executor", engine, str(recipe), log=log).wait(300) == 2
    lines = [line for line in log.read_text().splitlines() if line.startswith("curate: ")]
    lines = [line for line in lines if "Ray did not start" not in line]  # on a busy machine, before a second attempt
    assert len(lines) == 1 and "scorer poisonous fails: ValueError: no weights for these" in lines[0], lines
