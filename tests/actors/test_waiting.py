"""No wait without a deadline; what Ray raises becomes one line; a start that fails is tried once more."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
import ray

from actors import local_cluster, ray_cluster, waiting
from actors.ray_cluster import ClusterError, LostClusterError, explained, on_cluster
from curation.core.errors import UserError
from jobs import cli

REPO = Path(__file__).parent.parent.parent


def test_nothing_waits_for_ray_without_a_look_at_the_cluster() -> None:
    bare = re.compile(r"\bray\.(get|wait)\(")
    files = [path for package in ("actors", "jobs") for path in (REPO / package).rglob("*.py")]
    assert len(files) > 20
    found = {path.name for path in files if bare.search(path.read_text())}
    assert found == {"waiting.py"}


def test_an_answer_that_never_comes_is_a_lost_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "ANSWER_SECONDS", 0.05)
    never = threading.Event()
    with pytest.raises(LostClusterError, match="its GCS has not answered"):
        waiting.ask(never.wait)
    never.set()
    assert waiting.ask(lambda: 5) == 5
    with pytest.raises(LostClusterError, match="its GCS answers with no such thing"):
        waiting.ask(lambda: (_ for _ in ()).throw(ConnectionError("no such thing\nat all")))
    with pytest.raises(KeyError):
        waiting.ask(lambda: {}["a"])


def test_what_ray_raises_is_one_line() -> None:
    for error in (
        ray.exceptions.RaySystemError(OSError("broken\npipe")),
        ray.exceptions.ActorUnschedulableError("no node\nhas it"),
        ray.exceptions.RayTaskError("f", "Traceback:\n  many lines", ZeroDivisionError("x")).as_instanceof_cause(),
    ):
        found = explained(error)
        assert isinstance(found, ClusterError) and found.exit_code == 3 and found.fix
        assert "\n" not in str(found)
    ours = ray.exceptions.RayTaskError("f", "Traceback", UserError("no", fix="yes")).as_instanceof_cause()
    assert type(explained(ours)) is UserError
    assert isinstance(explained(KeyError("a")), KeyError)


def test_an_error_of_rays_that_nobody_caught_is_a_line_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ray.exceptions.LocalRayletDiedError

    monkeypatch.setattr(cli.cli, "main", fail)
    assert cli._main(["run", "x.yaml"]) == 3
    line = capsys.readouterr().err.strip()
    assert line.startswith("curate: the Ray cluster fails: LocalRayletDiedError") and "\n" not in line
    with pytest.raises(ray.exceptions.LocalRayletDiedError):
        cli._main(["--debug", "run", "x.yaml"])


def test_a_local_cluster_that_breaks_is_replaced_a_few_times(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[str] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(local_cluster, "start", lambda: started.append("local"))
    monkeypatch.setattr(local_cluster, "stop", lambda: None)
    monkeypatch.setattr(ray_cluster, "_connect", started.append)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    results = [1, 0]

    def work() -> str:
        if results.pop():
            return "done"
        raise LostClusterError("the Ray cluster is lost: its raylet died")

    assert on_cluster(None, work) == "done" and started == ["local", "local"]
    assert capsys.readouterr().err.count("\n") == 1
    started.clear()
    results[:] = [0] * 9
    with pytest.raises(LostClusterError, match="for the 4th time"):
        on_cluster(None, work)
    assert len(started) == 4
    started.clear()
    with pytest.raises(LostClusterError):
        on_cluster("head:1", work)
    assert started == ["head:1"]
