"""Ranking beside a server: by another process, after a round's answers, picked up without a restart."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import httpx2 as httpx
import pytest
from labelled_colours import colour_queue, train_folds, truth_of, with_reranking
from review_queues import make_queue
from running import serve
from services import wait_until

from curation.review.orders import newest_order
from curation.review.queue import open_queue
from curation.review.session import Session
from curation.review.verification import verify_queue
from jobs.console import ranking


@pytest.mark.slow
def test_a_server_ranks_again_and_shows_the_new_order(tmp_path: Path) -> None:
    plain = colour_queue(tmp_path, 40, {3, 8, 12})
    card = train_folds(tmp_path / "corpus", tmp_path / "folds", steps=3)
    queue = with_reranking(plain, tmp_path / "again", card, every=10)
    process, url = serve(tmp_path / "again", tmp_path / "log", "--reviewer", "ann")
    try:
        shown = [httpx.get(f"{url}/api/next", params={"reviewer": "ann"}).json()["offer"]["item"]]
        for item in range(10):
            fields = {"reviewer": "ann", "item": item, "n": 1, "kind": "label", "label": truth_of(item)}
            assert httpx.post(f"{url}/api/answer", json=fields).json()["created"]
        wait_until(lambda: newest_order(queue) is not None, "the order")
        wait_until(lambda: "order 1: from 10 answers" in (tmp_path / "log").read_text(), "the line")
        order = newest_order(queue)
        assert order is not None and shown == [0]
        following = lambda: httpx.get(f"{url}/api/next", params={"reviewer": "ann"}).json()  # noqa: E731
        wait_until(lambda: following()["offer"]["item"] == order.left[0], "the new order")
        assert following()["progress"]["answered"] == 10
    finally:
        process.send_signal(signal.SIGKILL)  # type: ignore[attr-defined]
        process.wait(60)  # type: ignore[attr-defined]
    assert not verify_queue(open_queue(str(tmp_path / "again"))).findings


def test_a_failed_ranking_is_said_once_a_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(make_queue(tmp_path, 6))
    calls: list[int] = []

    def fail(url: str, every: int) -> bool:
        calls.append(session.spent)
        return False

    monkeypatch.setattr(ranking, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(ranking, "_rank", fail)
    with ranking.background(session, "url", 2):
        for item in (0, 1):
            session.answer("ann", item, 1, "cannot_tell", None)
        wait_until(lambda: calls == [2], "the first")
        for item in (2, 3):
            session.answer("ann", item, 1, "cannot_tell", None)
        wait_until(lambda: calls == [2, 4], "the second")


@pytest.mark.slow
def test_what_a_failed_process_says(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_queue(tmp_path, 6)
    assert not ranking._rank(str(tmp_path / "queue"), 2)
    assert "names no classifiers" in capfd.readouterr().err


def test_no_thread_without_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "Thread", json.loads)  # would fail
    with ranking.background(Session(make_queue(tmp_path, 6)), "url", 0):
        pass
