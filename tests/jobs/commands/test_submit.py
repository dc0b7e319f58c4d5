"""`curate submit`: the same recipe through the Ray Jobs API to a cluster of two raylets that asks for a token."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from builders import write_corpus, write_recipe, write_weights
from click.testing import CliRunner
from ray.job_submission import JobStatus
from services import free_ports

import curation as cu
from jobs.commands import submit as submitting

REPO = Path(__file__).parents[3]
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "only-for-this-test-0123456789abcdef"}
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]

_CLUSTER = """
import sys
from ray.cluster_utils import Cluster
head = {"num_cpus": 1, "include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": int(sys.argv[1])}
head |= {"dashboard_agent_listen_port": int(sys.argv[2])}  # the default one may belong to another Ray on this machine
cluster = Cluster(initialize_head=True, head_node_args=head)
cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
print("ready", flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    port, agent_port = free_ports(2)
    path = (
        f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # `python` is the one that has our libraries
    )
    process = subprocess.Popen(
        [sys.executable, "-c", _CLUSTER, str(port), str(agent_port)],
        env={**os.environ, **TOKEN, "PATH": path}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout and process.stdin
    assert any(line == "ready\n" for line in process.stdout), "the cluster did not start"
    yield f"http://127.0.0.1:{port}"
    process.stdin.close()
    process.wait(300)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("submit")
    write_corpus(root / "corpus", 3, 30)
    sha = write_weights(root / "w.safetensors")
    compute = {"batch_size": 64, "num_cpus": 0.5, "max_actors": 2, "decode_tasks": 2, "decode_cpus": 0.25}
    weights = str(root / "w.safetensors")
    return write_recipe(root / "r.yaml", str(root / "corpus"), str(root / "out"), weights, sha, compute=compute)


def submit(recipe: Path, address: str, *options: str, token: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.cli", "submit", str(recipe), "--address", address, *options]
    environment = {**os.environ, **(TOKEN if token else {"RAY_AUTH_MODE": "disabled"})}
    return subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=900)


def test_a_job_runs_and_its_log_is_followed(recipe: Path, dashboard: str) -> None:
    done = submit(recipe, dashboard, "--with-code", "--set", "shards.samples=20")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "snapshot" in done.stdout and "succeeded" in done.stderr
    snapshot = cu.open(str(recipe.parent / "out"))
    assert snapshot.document["samples"]["kept"] > 0
    again = submit(recipe, dashboard, "--set", "shards.samples=20")
    assert again.returncode == 0
    assert "nothing to do" in again.stdout


@pytest.mark.soak
def test_a_run_of_learning_is_submitted_like_one_of_curation(recipe: Path, dashboard: str) -> None:
    home = recipe.parent
    sha = write_weights(home / "w.safetensors")
    (home / "learn.yaml").write_text(f"""
data: {write_corpus(home / "pairs", 2, 60, flaws=False)}
output: {home}/learned
learner: {{contrastive: {{model: proxy-mu, steps: 6, batch: 8}}}}
online: {{model: proxy-mu}}
reference: {{weights: {home}/w.safetensors, sha256: {sha}}}
selection: {{selector: learnability, lag: 1}}
holdout: 0.3
compute: {{learners: 1, learner_cpus: 0.5, actors: 1, actor_cpus: 0.5}}
""")
    done = submit(home / "learn.yaml", dashboard, "--with-code")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "6 steps" in done.stdout and (home / "learned" / "summary.json").exists()
    wrong = submit(home / "learn.yaml", dashboard, "--set", "selection.lags=1")
    assert wrong.returncode == 2 and "did you mean" in wrong.stderr and "job" not in wrong.stderr


def test_a_job_that_fails_says_why_and_exits_as_it_did(recipe: Path, dashboard: str) -> None:
    done = submit(recipe, dashboard, "--set", f"corpus={recipe.parent}/nowhere")
    assert done.returncode == 3
    assert "[missing_bucket]" in done.stdout


@pytest.mark.parametrize(("options", "wanted"), [([], ""), (["--accept-yield"], " --accept-yield")])
def test_a_yield_is_accepted_on_the_cluster_as_here(
    options: list[str], wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(submitting, "_client", lambda address: None)
    monkeypatch.setattr(submitting, "_environment", lambda *rest: {})
    monkeypatch.setattr(submitting, "_submit", lambda client, command, environment: asked.append(command) or "job")
    written = write_recipe(tmp_path / "r.yaml", f"{tmp_path}", f"{tmp_path}/out", "", "", scorers=[], filters=[])
    done = CliRunner().invoke(submitting.submit, [str(written), "--no-wait", *options], catch_exceptions=False)
    assert done.exit_code == 0 and asked == [f"python -m jobs.cli run recipe.yaml{wanted}"]


def test_a_log_that_breaks_off_is_taken_up_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Client:
        """Its first stream ends in the middle of the log, while the job goes on."""

        streams: ClassVar = [["one\n", "tw"], ["one\n", "two\n"], ["one\ntwo\n", "three\n"]]
        states: ClassVar = [JobStatus.RUNNING, JobStatus.RUNNING, JobStatus.FAILED]

        async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
            for text in self.streams.pop(0):
                yield text

        def get_job_status(self, job: str) -> JobStatus:
            return self.states.pop(0)

        def get_job_info(self, job: str) -> SimpleNamespace:
            return SimpleNamespace(driver_exit_code=3)

    monkeypatch.setattr(submitting, "LOOK_SECONDS", 0)
    assert submitting._follow(Client(), "job") == 3
    assert capsys.readouterr().out == "one\ntwo\nthree\n"


def test_no_token_is_refused(recipe: Path, dashboard: str) -> None:
    done = submit(recipe, dashboard, token=False)
    assert done.returncode == 3
    assert "[no_cluster]" in done.stderr and "Traceback" not in done.stderr
