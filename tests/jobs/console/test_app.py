"""The routes of the review page: what they return, and whom they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from review_queues import make_queue
from starlette.testclient import TestClient

from curation.core.errors import UserError
from curation.review.queue import Queue
from curation.review.session import Session
from curation.review.status import status_of
from jobs.console.app import KEYS, keys_of, make_app
from jobs.console.guard import HEADERS, LEAST_TOKEN, expect_token, is_loopback

TOKEN = "correct horse battery"
HOSTILE = "</script><script>alert(1)</script>\u202e<img src=x onerror=alert(2)>" + "x" * 10_000


def client(queue: Queue, **options: Any) -> TestClient:
    app = make_app(Session(queue), **options)
    return TestClient(app, base_url="http://127.0.0.1:8787", follow_redirects=False)


def send(page: TestClient, **fields: Any) -> Any:
    return page.post(
        "/api/answer", json={"reviewer": "ann", "item": 0, "n": 1, "kind": "label", "label": "cat", **fields}
    )


def test_a_round_of_the_page(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, 3)
    page = client(queue, reviewer="ann")
    found = page.get("/api/queue").json()
    assert found["classes"] == [{"label": name, "key": str(n + 1)} for n, name in enumerate(queue.document.classes)]
    assert found["reviewer"] == "ann"
    offer = page.get("/api/next?reviewer=ann").json()["offer"]
    assert (offer["item"], offer["n"], offer["label"], offer["caption"]) == (0, 1, "cat", "thing 0")
    assert page.get("/api/next?reviewer=ann&skip=0,x,7").json()["offer"]["item"] == 1
    assert send(page).json() == {"created": True, "progress": page.get("/api/next?reviewer=ann").json()["progress"]}
    assert send(page).json()["created"] is False
    assert send(page, label="dog").status_code == 409
    undone = send(page, n=2, kind="undo", label=None)
    assert undone.status_code == 200 and undone.json()["progress"]["spent"] == 0
    assert page.get("/api/item/0?reviewer=ann").json()["offer"]["n"] == 3
    assert status_of(queue).open == 3


def test_pictures_are_encoded_again(tmp_path: Path) -> None:
    page = client(make_queue(tmp_path, 3, changes={1: {"image": b"<svg onload='alert(1)'/>"}}))
    shown = page.get("/pictures/0")
    assert shown.headers["content-type"] == "image/png" and shown.content.startswith(b"\x89PNG")
    assert shown.headers["x-content-type-options"] == "nosniff" and "private" in shown.headers["cache-control"]
    refused = page.get("/pictures/1")
    assert refused.status_code == 422 and refused.json()["error"] == "image_format"
    assert page.get("/pictures/99").status_code == 400 and page.get("/pictures/x").status_code == 404


def test_hostile_texts_are_json_alone(tmp_path: Path) -> None:
    """No page contains data; JSON is never taken for HTML, whatever its texts are."""
    queue = make_queue(tmp_path, 3, changes={0: {"caption": HOSTILE, "label": "<b>"}}, classes=["<b>", "cat", "dog"])
    page = client(queue)
    assert "<script>alert" not in page.get("/").text and "<b>" not in page.get("/").text
    found = page.get("/api/next?reviewer=ann")
    assert found.headers["content-type"] == "application/json" and found.headers["x-content-type-options"] == "nosniff"
    caption = found.json()["offer"]["caption"]
    assert caption.startswith("</script><script>alert(1)</script>\\u202e<img") and len(caption) < 5000


def test_every_response_has_the_headers(tmp_path: Path) -> None:
    page = client(make_queue(tmp_path, 3))
    for path in ("/", "/static/review.js", "/api/queue", "/nothing", "/pictures/0", "/api/next?reviewer=../x"):
        headers = page.get(path).headers
        assert {name: headers.get(name) for name in HEADERS} == HEADERS, path
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    html = page.get("/").text
    assert "<style" not in html and "onclick" not in html
    assert html.count("<script") == html.count('<script src="/static/') == 1


def test_other_hosts_and_pages_are_refused(tmp_path: Path) -> None:
    queue = make_queue(tmp_path, 3)
    page = client(queue)
    for host in ("evil.example", "evil.example:8787", "127.0.0.1.evil.example", ""):
        assert page.get("/api/queue", headers={"host": host}).status_code == 403
    for host in ("localhost:8787", "127.0.0.1", "[::1]:8787"):
        assert page.get("/api/queue", headers={"host": host}).status_code == 200
    fields = {"reviewer": "ann", "item": 0, "n": 1, "kind": "label", "label": "cat"}
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        assert page.post("/api/answer", json=fields, headers=headers).status_code == 403
    form = page.post("/api/answer", content=json.dumps(fields), headers={"content-type": "text/plain"})
    assert form.status_code == 415
    assert status_of(queue).spent == 0
    assert page.post("/api/answer", json=fields, headers={"origin": "http://127.0.0.1:8787"}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"reviewer":"ann","item":"0","n":1,"kind":"label"}',
     b'{"reviewer":"ann","item":true,"n":1,"kind":"label"}',
     b'{"reviewer":"ann","item":0,"n":1,"kind":"label","label":3}', b'{"reviewer":"ann","item":0,"n":1,"kind":["x"]}'],
)  # fmt: skip
def test_bodies_that_are_no_answers(body: bytes, tmp_path: Path) -> None:
    page = client(make_queue(tmp_path, 3))
    found = page.post("/api/answer", content=body, headers={"content-type": "application/json"})
    assert found.status_code == 400 and found.json()["fix"]
    long = page.post("/api/answer", content=b"x" * 70_000, headers={"content-type": "application/json"})
    assert long.status_code == 413


def test_a_token_opens_a_session(tmp_path: Path) -> None:
    page = client(make_queue(tmp_path, 3), token=TOKEN, loopback=False)
    assert page.get("/").headers["location"] == "/login"
    for path in ("/api/queue", "/pictures/0"):
        assert page.get(path).status_code in (303, 401)
    assert send(page).status_code == 401
    assert page.post("/login", data={"token": "wrong"}).status_code == 403
    entered = page.post("/login", data={"token": TOKEN})
    cookie = entered.headers["set-cookie"]
    assert entered.status_code == 303 and "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    assert send(page).status_code == 200 and page.get("/pictures/0").status_code == 200
    page.cookies.clear()
    assert page.get("/api/queue", headers={"cookie": "curate_console=x"}).status_code == 401


def test_addresses_that_need_a_token() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        assert is_loopback(host)
        expect_token(host, "")
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", ""):
        assert not is_loopback(host)
        with pytest.raises(UserError, match="needs a token"):
            expect_token(host, "")
        expect_token(host, "x" * LEAST_TOKEN)
    with pytest.raises(UserError, match="fewer than"):
        expect_token("127.0.0.1", "x" * (LEAST_TOKEN - 1))


def test_keys_of_classes() -> None:
    names = [f"class {n}" for n in range(80)]
    keys = [item["key"] for item in keys_of(names)]
    assert keys[:12] == [*"123456789", "a", "b", "c"] and len(set(KEYS)) == len(KEYS)
    assert not {"u", "z"} & set(keys) and keys[-1] == ""
