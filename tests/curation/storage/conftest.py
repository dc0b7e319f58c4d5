"""A clock that no test waits for, and a broken S3 server that lists three keys a page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from broken_s3 import BrokenS3, store_of
from services import Clock

from curation.storage import object_store, retry
from curation.storage.store import Store


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(retry, "time", clock)
    return clock


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[BrokenS3]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setattr(object_store, "LISTED", 3)
    monkeypatch.setattr(object_store, "LOST", 5.0)  # some listings of these tests are lost by obstore itself
    with BrokenS3() as server:
        yield server


@pytest.fixture
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[BrokenS3, Store]]:
    """A server with the defect that the test names by `indirect`, and its store: the real clock, 5 s of patience."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    with BrokenS3(request.param) as server:
        yield server, store_of(server, patience=5)
