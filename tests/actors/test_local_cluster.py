"""A cluster of this machine: how it is started, what of it is printed, and which processes belong to it. No Ray."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
import ray

from actors import local_cluster
from actors.waiting import ClusterError


def test_a_start_that_fails_is_tried_once_more_and_then_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[float] = []
    results: list[BaseException | None] = []

    def init(*arguments: object, **options: object) -> None:
        if error := results.pop(0):
            raise error

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(local_cluster, "stop", lambda: None)
    monkeypatch.setattr(local_cluster, "_patience", lambda s: asked.append(s) or io.StringIO())
    slow = Exception("The current node timed out during startup. This could happen because\nsome of the raylet")
    results[:] = [slow, None]
    local_cluster.start()
    assert asked == [local_cluster.START_SECONDS, local_cluster.SECOND_START_SECONDS]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "trying once more" in said
    results[:] = [slow, slow]
    with pytest.raises(ClusterError, match="no Ray cluster on this machine: The current node timed out") as error:
        local_cluster.start()
    assert error.value.exit_code == 3 and "\n" not in str(error.value) and error.value.fix


def test_a_node_is_asked_after_while_its_raylet_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import services

    answers: list[object] = [RuntimeError("not yet"), RuntimeError("not yet"), {"node": 1}]

    def get_node(address: str) -> object:
        if isinstance(answer := answers.pop(0), RuntimeError):
            raise answer
        return answer

    monkeypatch.setattr(services, "get_node", get_node)
    alive = [7]
    monkeypatch.setattr(local_cluster, "_children", lambda name="": alive)
    with local_cluster._patience(60):
        assert services.get_node("a") == {"node": 1}
        alive, answers[:] = [], [RuntimeError("not yet")]
        with pytest.raises(RuntimeError, match="its raylet died while it started"):
            services.get_node("a")
    assert services.get_node is get_node


def test_what_ray_prints_of_dead_workers_is_left_out() -> None:
    out = io.StringIO()
    stream = local_cluster.without_raylets(out)
    print("before", file=stream)
    print("\x1b[33m(raylet)\x1b[0m Raylet is terminated.\n  line 2", file=stream)
    print("(autoscaler +3s) added a node", file=stream)
    print(file=stream)
    assert out.getvalue() == "before\n(autoscaler +3s) added a node\n\n"


def test_only_children_of_a_session_of_this_process_are_ended() -> None:
    def child(pid: int) -> subprocess.Popen[bytes]:
        session = f"session_2026-11-30_03-20-00_123456_{pid}"
        wait = "import sys; print(flush=True); sys.stdin.read()"
        command = [sys.executable, "-c", wait, f"/tmp/ray/{session}/logs"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline()  # it runs its own command line now
        return process

    with child(os.getpid()) as ours, child(1) as others:
        try:
            found = local_cluster._children()
            assert ours.pid in found and others.pid not in found
            assert local_cluster._children("raylet") == []
        finally:
            ours.kill()
            others.kill()


def test_what_supervises_is_told_where_there_is_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CURATE_STATE_FD", raising=False)
    local_cluster.note(b"R")
    reading, writing = os.pipe()
    monkeypatch.setenv("CURATE_STATE_FD", str(writing))
    local_cluster.note(b"R")
    local_cluster.note(b"E")
    os.close(writing)
    assert os.read(reading, 10) == b"RE"
    os.close(reading)
    local_cluster.note(b"R")  # it is gone
