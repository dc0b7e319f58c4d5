"""`curate` in tests: a run in this process, any command in this process, or a process of its own to kill."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner
from inline_executor import InlineExecutor
from services import wait_until

import curation as cu
from curation.curating import plan_decision, planning, run, scoring_passes, snapshot_making
from curation.curating.pipeline import Pipeline, RunCounts, pipeline
from curation.curating.scoring.batches import units_table
from curation.curating.scoring.dispatch import score
from curation.dataset.snapshot import Snapshot
from curation.ledger.documents import SnapshotDocument
from curation.recipes.curation_recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]


class Curated(NamedTuple):
    """The snapshot that a run made or found, and what the run did for it."""

    snapshot: Snapshot
    work: RunCounts


def curate(recipe: Path, *overrides: str, ray: bool = False, unreadable: str = "", **options: bool) -> Curated:
    """Carry out a recipe in this process: call by call, or where the command would, on the Ray that runs (`ray`).

    `unreadable`: the key of a shard that the store refuses for good. `options`: fields of `RunOptions`; the yield is
    accepted unless `accept_yield` is False.
    """
    from jobs.commands.run import run_steps

    chosen = {"accept_yield": True, **options}
    on = InlineExecutor(recipe.parent / "places")
    with pipeline(load_recipe(recipe, overrides)) as work:
        if ray:
            document = run_steps(work, None, **chosen)
        elif unreadable:
            document = _without(work, unreadable, on)
        else:
            document = run.run_steps(work, lambda plan, units, task: task(on), run.RunOptions(**chosen))
        return Curated(cu.open(f"{work.recipe.output}@{document['snapshot']}"), work.counts)


def _without(work: Pipeline, unreadable: str, on: InlineExecutor) -> SnapshotDocument:
    """The steps of a run that has found a shard unreadable."""
    planned = planning.make_plan(work)
    left = units_table([shard for shard in planned.shards() if shard.key != unreadable])
    for progress in score(scoring_passes.scoring_task(work, list(work.recipe.scorers)), left, on):
        assert not progress.failures
    work.unreadable |= {shard: "store_not_found" for shard in planned.shards() if shard.key == unreadable}
    with plan_decision.decide(work, planned, lambda n: None) as decided:
        written = snapshot_making.write_groups(work, decided, lambda n: None, on)
        return snapshot_making.create_snapshot(work, planned, decided, written)


def command(*words: str) -> str:
    """Run a command of the CLI in this process; it succeeds, and its standard output is returned."""
    from jobs.cli import cli

    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def start(*words: str, log: Path, module: str = "jobs.cli") -> subprocess.Popen[bytes]:
    """Start a command of the CLI in a session of its own; what it prints is appended to `log`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT / "tests")])}
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", module, *words], cwd=ROOT, stdout=file, stderr=file, env=environment,
            start_new_session=True,
        )  # fmt: skip


def serve(queue: Path, log: Path, *more: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a server on any free port; returns the process and the page's URL."""
    process = start("review", "serve", str(queue), "--port", "0", *more, log=log)
    wait_until(lambda: "review page" in log.read_text() or process.poll() is not None, "the server")
    found = re.findall(r"http://\S+/", log.read_text())
    assert found, log.read_text()
    return process, found[-1].rstrip("/")


def killed_after(seconds: float, work: Callable[[], None]) -> bool:
    """Run `work` in a fork and kill it with SIGKILL. Returns whether it ended by itself first."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.WIFEXITED(os.waitpid(child, 0)[1])
