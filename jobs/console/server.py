"""Serve the review page: bind a socket, print its address, answer requests until the process ends.

A killed server loses nothing: the page keeps an answer until its record is stored, and sends it again otherwise.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from curation.core.errors import UserError
from curation.review.session import Session
from jobs.console.app import make_app
from jobs.console.guard import expect_token, is_loopback


def serve(
    session: Session, host: str, port: int, *, token: str = "", reviewer: str = "",
    ready: Callable[[str], None] = lambda url: None,
) -> None:  # fmt: skip
    """Serve a queue. port: 0 for any free one. ready: called with the page's URL once the socket listens.

    Raises `UserError` for an address that is not loopback without a token, and for one that can't be bound.
    """
    expect_token(host, token)
    app = make_app(session, reviewer=reviewer, token=token, loopback=is_loopback(host))
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, proxy_headers=False, lifespan="off",
        timeout_keep_alive=75,
    )  # fmt: skip
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        fix = "choose another --port, or 0 for any free one"
        raise UserError(f"{host}:{port} can't be bound: {error.strerror or error}", fix=fix) from None
    with listening:
        name = f"[{host}]" if family == socket.AF_INET6 else host
        ready(f"http://{name}:{listening.getsockname()[1]}/")
        uvicorn.Server(config).run(sockets=[listening])
