"""`kill -9` of `curate learn` at random moments; the same command again ends with an undisturbed run's weights."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from builders import write_corpus, write_weights

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
REPO = Path(__file__).parent.parent.parent


def learn(home: Path, out: str, *settings: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jobs.cli", "learn", str(home / "learn.yaml")]
    command += [word for setting in (f"output={home / out}", *settings) for word in ("--set", setting)]
    log = (home / f"{out}.log").open("ab")
    return subprocess.Popen(command, cwd=REPO, stdout=log, stderr=log)


def summary(home: Path, out: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((home / out / "summary.json").read_text())
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    corpus = write_corpus(tmp_path / "corpus", shards=2, n=60, flaws=False)
    sha = write_weights(tmp_path / "w.safetensors")
    (tmp_path / "learn.yaml").write_text(f"""
data: {corpus}
output: {tmp_path}/out
learner: {{contrastive: {{model: proxy-mu, steps: 24, batch: 8, averaging: 0.9}}}}
online: {{model: proxy-mu}}
reference: {{model: proxy-mu, weights: {tmp_path}/w.safetensors, sha256: {sha}}}
selection: {{selector: {{learnability: {{gain: 10}}}}}}
holdout: 0.3
evaluate_every: 12
checkpoint_every: 3
threads: 1
device: cpu
""")
    return tmp_path


@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.soak)])
def test_a_killed_learner_ends_with_the_same_weights(kills: int, home: Path) -> None:
    assert learn(home, "calm").wait() == 0, (home / "calm.log").read_text()[-2000:]
    checkpoints = home / "shaken" / "checkpoints"
    for _ in range(kills):
        before = len(list(checkpoints.glob("*"))) and max(path.name for path in checkpoints.glob("0*"))
        process = learn(home, "shaken")
        while process.poll() is None:
            now = list(checkpoints.glob("0*")) if checkpoints.exists() else []
            if now and max(path.name for path in now) != before:
                break
            time.sleep(0.005)
        assert process.poll() is None, "the run ended before it could be disturbed"
        time.sleep(random.random() * 0.3)
        process.kill()
        process.wait()
    assert not (home / "shaken" / "summary.json").exists()
    assert learn(home, "shaken").wait() == 0, (home / "shaken.log").read_text()[-2000:]
    calm, shaken = summary(home, "calm"), summary(home, "shaken")
    assert shaken["sha256"] == calm["sha256"] and shaken["curve"] == calm["curve"] and shaken["flops"] == calm["flops"]


@pytest.mark.ray
@pytest.mark.soak
def test_a_killed_driver_of_a_cluster_ends_with_the_same_weights(home: Path) -> None:
    """The first half on a cluster, whose driver dies; the second half in one process: what they have in common is the
    recipe, and with it every sub-batch."""
    lag = ("selection.lag=2",)
    assert learn(home, "calm", *lag).wait() == 0, (home / "calm.log").read_text()[-2000:]
    process = learn(home, "shaken", *lag, "compute={learners: 1, learner_cpus: 0.5, actor_cpus: 0.5}")
    while process.poll() is None and not (home / "shaken" / "checkpoints" / "index.json").exists():
        time.sleep(0.05)
    assert process.poll() is None, (home / "shaken.log").read_text()[-2000:]
    process.kill()
    process.wait()
    assert learn(home, "shaken", *lag).wait() == 0, (home / "shaken.log").read_text()[-2000:]
    calm, shaken = summary(home, "calm"), summary(home, "shaken")
    assert shaken["sha256"] == calm["sha256"] and shaken["curve"] == calm["curve"] and shaken["flops"] == calm["flops"]
