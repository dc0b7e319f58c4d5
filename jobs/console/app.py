"""The routes of the review page.

    GET  /                    the page
    GET  /api/queue           classes with their keys, and the reviewer that the server was started for
    GET  /api/next            the next item of a reviewer, and the counts
    GET  /api/item/<item>     one item again
    POST /api/answer          record a label, that the reviewer can't tell, or an undo
    GET  /pictures/<item>     the picture, decoded and encoded again
    GET, POST /login          a session for the token

Requests to stores run on Starlette's threads. An error is JSON: a reason code, a message, what to do.
"""

from __future__ import annotations

import hmac
import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase
from typing import Any
from urllib.parse import parse_qs

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from curation.core.errors import ReasonError, TutelageError, UserError
from curation.review.session import ConflictError, Offer, Session
from jobs.console.guard import COOKIE, Guard, session_of

MOST_BODY = 64 << 10  # bytes of a request
RESERVED = "uz"  # letters that are no class: both take an answer back
KEYS = [*"123456789", *(letter for letter in ascii_lowercase if letter not in RESERVED), *ascii_uppercase]
STATIC = Path(__file__).parent / "static"


def make_app(session: Session, *, reviewer: str = "", token: str = "", loopback: bool = True) -> Starlette:
    """Return the application for one queue. reviewer: preset on the page. token, loopback: see `guard`."""
    routes = [
        Route("/", _page),
        Route("/login", _login, methods=["GET", "POST"]),
        Route("/api/queue", _queue),
        Route("/api/next", _next),
        Route("/api/item/{item:int}", _item),
        Route("/api/answer", _answer, methods=["POST"]),
        Route("/pictures/{item:int}", _picture),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    guard = Middleware(Guard, token=token, loopback=loopback)
    handlers: dict[Any, Any] = {TutelageError: _failed}
    app = Starlette(routes=routes, middleware=[guard], exception_handlers=handlers)
    app.state.session, app.state.reviewer, app.state.token = session, reviewer, token
    return app


def keys_of(classes: list[str]) -> list[dict[str, str]]:
    """Return each class with its key: 1 to 9, then letters; "" beyond the last letter, where the search box helps."""
    return [{"label": name, "key": KEYS[n] if n < len(KEYS) else ""} for n, name in enumerate(classes)]


def _page(request: Request) -> Response:
    return HTMLResponse(_template("review.html").render())


async def _login(request: Request) -> Response:
    """Show the form, or open a session. The token is in the body, so that no log of URLs has it."""
    token: str = request.app.state.token
    if request.method == "GET" or not token:
        return HTMLResponse(_template("login.html").render(wrong=False)) if token else RedirectResponse("/", 303)
    given = parse_qs((await _body(request)).decode("utf-8", "replace")).get("token", [""])[0]
    if not hmac.compare_digest(given.encode(), token.encode()):
        return HTMLResponse(_template("login.html").render(wrong=True), 403)
    response = RedirectResponse("/", 303)
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, session_of(token), httponly=True, samesite="strict", secure=secure)
    return response


def _queue(request: Request) -> Response:
    document = _session(request).queue.document
    return JSONResponse(
        {
            "classes": keys_of(document.classes),
            "by": document.ranking.by,
            "reviewer": request.app.state.reviewer,
            "current_votes": document.current_votes,
        }
    )


def _next(request: Request) -> Response:
    session, reviewer = _session(request), request.query_params.get("reviewer", "")
    skip = [int(item) for item in request.query_params.get("skip", "").split(",") if item.isdecimal()][:16]
    offer = session.next(reviewer, skip)
    return _json(session, reviewer, offer)


def _item(request: Request) -> Response:
    session, reviewer = _session(request), request.query_params.get("reviewer", "")
    return _json(session, reviewer, session.offer(reviewer, request.path_params["item"]))


async def _answer(request: Request) -> Response:
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise HTTPException(415, "send JSON")
    try:
        given = json.loads(await _body(request))
        fields = {name: given[name] for name in ("reviewer", "item", "n", "kind")}
        label = given.get("label")
    except (ValueError, TypeError, KeyError):
        raise UserError("the answer is not JSON with reviewer, item, n and kind", fix="reload the page") from None
    kinds = {"reviewer": str, "item": int, "n": int, "kind": str}
    good = all(type(fields[name]) is kind for name, kind in kinds.items())
    if not good or not (label is None or isinstance(label, str)):
        raise UserError("a field of the answer has a wrong type", fix="reload the page")
    session, at = _session(request), datetime.now(UTC).isoformat(timespec="seconds")
    created = await run_in_threadpool(session.answer, **fields, label=label, at=at)
    return JSONResponse({"created": created, "progress": session.progress(fields["reviewer"])})


def _picture(request: Request) -> Response:
    shown = _session(request).picture(request.path_params["item"])
    headers = {"Cache-Control": "private, max-age=600"}  # a picture that was fetched ahead is not fetched twice
    return Response(shown.data, media_type=shown.media_type, headers=headers)


def _json(session: Session, reviewer: str, offer: Offer | None) -> Response:
    shown = None if offer is None else {"item": offer.item, "n": offer.n, **offer.row}
    return JSONResponse({"offer": shown, "progress": session.progress(reviewer)})


async def _failed(request: Request, error: TutelageError) -> Response:
    """Return an error of ours as JSON; its message names no secret."""
    status = 409 if isinstance(error, ConflictError) else 400 if isinstance(error, UserError) else 503
    code = error.code
    if isinstance(error, ReasonError):
        status, code = 422, error.reason
    return JSONResponse({"error": code, "message": str(error), "fix": error.fix}, status)


async def _body(request: Request) -> bytes:
    """Read a request's body. Raises `HTTPException` beyond `MOST_BODY` bytes."""
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > MOST_BODY:
            raise HTTPException(413, "the request is too long")
    return data


def _session(request: Request) -> Session:
    session: Session = request.app.state.session
    return session


@cache
def _environment() -> Environment:
    loader = PackageLoader("jobs.console")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _template(name: str) -> Any:
    return _environment().get_template(name)
