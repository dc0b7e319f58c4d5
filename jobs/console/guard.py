"""Who may use the console: the check before every request, and the headers of every response.

On loopback, no token is needed, but the Host header must name this machine, so that a page elsewhere can't reach the
console through a DNS name of its own (rebinding). On another address, every request needs a session, which a form opens
for the token. The token is compared in constant time, stands in no URL and is never logged; the cookie holds a digest.
"""

from __future__ import annotations

import hmac
import ipaddress
from hashlib import sha256
from http.cookies import SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from curation.core.errors import UserError

COOKIE = "curate_console"
LEAST_TOKEN = 16  # characters
OPEN_PATHS = ("/login", "/static/")  # without a session
CONTENT_POLICY = (
    "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether a host to bind to is this machine's loopback. A name other than `localhost` is not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def expect_token(host: str, token: str) -> None:
    """Raise `UserError` unless the token suffices for the address: none on loopback, else 16 characters."""
    fix = f"set CURATE_CONSOLE_TOKEN to at least {LEAST_TOKEN} random characters, or bind to 127.0.0.1"
    if token and len(token) < LEAST_TOKEN:
        raise UserError(f"the token of the console has fewer than {LEAST_TOKEN} characters", fix=fix)
    if not token and not is_loopback(host):
        raise UserError(f"{host} is not loopback, so the console needs a token", fix=fix)


def session_of(token: str) -> str:
    """Return the value of the cookie for a token."""
    return hmac.new(token.encode(), b"curate console session", sha256).hexdigest()


class Guard:
    """ASGI middleware: refuses requests before they reach a route, and adds `HEADERS` to every response."""

    def __init__(self, app: ASGIApp, token: str = "", loopback: bool = True) -> None:
        self.app, self.token, self.loopback = app, token, loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refused = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
        await (self.app if refused is None else refused)(scope, receive, send_guarded)

    def _refusal(self, method: str, path: str, headers: Headers) -> Response | None:
        """Return the response to a request that may not pass; None for one that may."""
        host = urlsplit(f"//{headers.get('host', '')}")
        if self.loopback and not is_loopback(host.hostname or ""):
            return _refuse(403, "bad_host", "the Host header does not name this machine")
        if method not in ("GET", "HEAD") and not self._is_same_origin(headers):
            return _refuse(403, "bad_origin", "the request comes from another page")
        if self.token and not path.startswith(OPEN_PATHS) and not self._has_session(headers):
            if path.startswith("/api/"):
                return _refuse(401, "no_session", "log in first")
            return RedirectResponse("/login", 303)
        return None

    def _is_same_origin(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        site = headers.get("sec-fetch-site", "same-origin")
        return site in ("same-origin", "none") and (origin is None or urlsplit(origin).netloc == headers.get("host"))

    def _has_session(self, headers: Headers) -> bool:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        return found is not None and hmac.compare_digest(found.value.encode(), session_of(self.token).encode())


def _refuse(status: int, reason: str, message: str) -> Response:
    return JSONResponse({"error": reason, "message": message}, status)
