"""The server as a process: where it binds, what it prints, and what remains when it is killed."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx2 as httpx
import pytest
from review_queues import make_queue
from running import serve

from curation.review.status import status_of
from curation.review.verification import verify_queue
from jobs.cli import _main

pytestmark = pytest.mark.slow


def test_a_killed_server_loses_no_answer_and_takes_a_repeated_one_once(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, 12)
    stored = 0
    for life in range(2):
        process, url = serve(tmp_path / "queue", tmp_path / f"log-{life}", "--reviewer", "ann")
        try:
            for item in range(stored, stored + 4):
                fields = {"reviewer": "ann", "item": item, "n": 1, "kind": "cannot_tell"}
                assert httpx.post(f"{url}/api/answer", json=fields).json()["created"]
            stored += 4
            again = httpx.post(f"{url}/api/answer", json={"reviewer": "ann", "item": 0, "n": 1, "kind": "cannot_tell"})
            assert again.json()["created"] is False
        finally:
            process.send_signal(signal.SIGKILL)  # type: ignore[attr-defined]
            process.wait(60)  # type: ignore[attr-defined]
    assert status_of(queue).refused == status_of(queue).spent == 8
    assert not verify_queue(queue).findings


def test_the_token_is_in_no_output(tmp_path: Path) -> None:
    make_queue(tmp_path, 3)
    (tmp_path / "token").write_text("a very secret token\n")
    process, url = serve(tmp_path / "queue", tmp_path / "log", "--token-file", str(tmp_path / "token"))
    try:
        assert httpx.post(f"{url}/login", data={"token": "a wrong secret token"}).status_code == 403
        assert httpx.post(f"{url}/login", data={"token": "a very secret token"}).status_code == 303
        assert httpx.get(f"{url}/api/queue").status_code == 401
    finally:
        process.terminate()  # type: ignore[attr-defined]
        process.wait(60)  # type: ignore[attr-defined]
    assert "secret" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_addresses_need_a_token(host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_queue(tmp_path, 3)
    assert _main(["review", "serve", str(tmp_path / "queue"), "--host", host, "--port", "0"]) == 2
    assert "is not loopback, so the console needs a token" in capsys.readouterr().err
