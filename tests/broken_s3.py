"""A small S3 server with one defect, over a real socket: stores must refuse it or survive it.

Nothing here mocks our own code."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from curation.storage.store import Store, StoreOptions, open_store


class BrokenS3:
    """Just enough S3 over loopback HTTP, in memory, without authentication, with one defect at a time.

    `ignores`     PUT ignores If-None-Match: what several real servers do. It must be refused.
    `refuses`     PUT with If-None-Match answers 501, as stores do that do not know it. It must be refused.
    `replaces`    PUT with If-None-Match answers 412 but replaces the object all the same. It must be refused.
    `loses`       the first answer to each PUT is lost: the put is done, then the connection is closed.
    `cuts`        GET sends at most `cut_at` bytes of a body, then closes the connection.
    `busy`        every request is answered 503 SlowDown twice before it is let through.
    `blind`       GET ignores If-Match.
    `denies`      GET of a key that holds `denied` answers 403 AccessDenied; of one that holds `archived`, 403
                  InvalidObjectState. Other keys are served.
    `silent`      accepts connections and never answers.

    Any one request can go wrong, too: `trouble` gets its method and its path with the query, and returns one of
    `TROUBLES`, or "" for none. Listings have pages of `page` keys, in the order of `order`.
    """

    def __init__(self, defect: str = "", cut_at: int = 100_000) -> None:
        self.defect, self.cut_at = defect, cut_at
        self.trouble: Callable[[str, str], str] = lambda method, path: ""
        self.page = 1000
        self.order: Callable[[Iterable[str]], list[str]] = sorted
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.failed: dict[tuple[str, str, str], int] = {}
        self.lock = threading.Lock()

    def __enter__(self) -> BrokenS3:
        broken = self

        class Handler(_Handler):
            store = broken

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


PAGE = b"<!DOCTYPE html><html><head><meta charset=utf-8></head><body>Please log in.<br></body></html>"


XHTML = b"<html><body>Please log in.</body></html>"  # what an XML parser takes


TROUBLES = {
    "busy": "503 SlowDown",
    "reset": "the connection is closed instead of an answer",
    "half": "half of the body, then the connection is closed",
    "flip": "one bit of the last byte is another one",  # "flip 70000": the highest bit of that byte of the object
    "longer": "more bytes than were asked for",
    "page": "status 200 with a web page",
    "tagged page": "the same with an etag",
    "xhtml": "status 200 with a web page that is XML",
    "denied": "403 without a reason",
    "expired": "400 ExpiredToken",
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        return  # clients that hang up are part of the tests


class _Handler(BaseHTTPRequestHandler):
    store: BrokenS3
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer is two writes, and the second would wait 40 ms for an ACK of the first

    def log_message(self, format: str, *args: object) -> None:
        return

    def _begin(self) -> tuple[str, bytes] | None:
        """(key, body), or None when the request was already answered."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        key = unquote(parts.path)
        mark = (self.command, self.path, self.headers.get("Range") or "")
        self.store.requests.append((self.command, key))
        if self.store.defect == "silent":
            time.sleep(60)
        self.wrong = self.store.trouble(self.command, self.path)
        assert self.wrong in {"", *TROUBLES} or self.wrong.startswith("flip ")
        if self._is_answered():
            return None
        if self.store.defect == "busy":
            with self.store.lock:
                failures = self.store.failed[mark] = self.store.failed.get(mark, 0) + 1
            if failures % 3:
                self._answer(503, b"<Error><Code>SlowDown</Code></Error>")
                return None
        return key, body

    def _is_answered(self) -> bool:
        """Answers in the store's place where the trouble is one of something between."""
        match self.wrong:
            case "busy":
                self._answer(503, b"<Error><Code>SlowDown</Code></Error>")
            case "denied":
                self._answer(403, b"")
            case "expired":
                self._answer(400, b"<Error><Code>ExpiredToken</Code></Error>")
            case "page" | "tagged page" | "xhtml":
                headers = {"Content-Type": "text/html", **({"ETag": '"page"'} if self.wrong == "tagged page" else {})}
                self._answer(200, XHTML if self.wrong == "xhtml" else PAGE, **headers)
            case "reset":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            case _:
                return False
        return True

    def do_PUT(self) -> None:
        request = self._begin()
        if request is None:
            return
        key, body = request
        conditional = self.headers.get("If-None-Match") == "*"
        defect = self.store.defect
        if conditional and defect == "refuses":
            self._answer(501, b"<Error><Code>NotImplemented</Code></Error>")
            return
        with self.store.lock:
            exists = conditional and defect != "ignores" and key in self.store.objects
            if not exists or defect == "replaces":
                self.store.objects[key] = body
            lost = defect == "loses" and not self.store.failed.get(("PUT", key, ""))
            self.store.failed["PUT", key, ""] = 1
        if lost:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif exists:
            self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        else:
            self._answer(200, b"", ETag=_etag(body))

    def do_GET(self) -> None:
        request = self._begin()
        if request is None:
            return
        key, _ = request
        if "list-type" in self.path:
            self._answer(200, self._listing(key))
            return
        if self.store.defect == "denies" and ("denied" in key or "archived" in key):
            code = b"AccessDenied" if "denied" in key else b"InvalidObjectState"
            self._answer(403, b"<Error><Code>" + code + b"</Code></Error>")
            return
        data = self.store.objects.get(key)
        if data is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        wanted = self.headers.get("If-Match")
        if wanted and wanted != _etag(data) and self.store.defect != "blind":
            self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            return
        first, last, status = 0, len(data) - 1, 200
        extra = {"ETag": _etag(data), "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        if self.headers.get("Range"):
            start, _, end = self.headers["Range"].removeprefix("bytes=").partition("-")
            first, last, status = int(start), min(last, int(end)) if end else last, 206
            extra["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        if self.wrong.startswith("flip "):
            at = int(self.wrong[5:])
            data = data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :]
        self._answer(status, data[first : last + 1], **extra)

    do_HEAD = do_GET

    def _listing(self, bucket: str) -> bytes:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        before = f"{bucket.rstrip('/')}/"
        keys = self.store.order(key.removeprefix(before) for key in self.store.objects if key.startswith(before))
        keys = [key for key in keys if key.startswith(query.get("prefix", ""))]
        after = query.get("continuation-token") or query.get("start-after")
        if after in keys:
            keys = keys[keys.index(after) + 1 :]
        elif after:
            keys = [key for key in keys if key > after]
        page = keys[: self.store.page]
        more = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if len(keys) > len(page) else ""
        items = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(self.store.objects[before + key])}</Size>"
            f"<LastModified>2026-01-01T00:00:00Z</LastModified><ETag>{_etag(self.store.objects[before + key])}</ETag>"
            "</Contents>"
            for key in page
        )
        return f"<ListBucketResult>{more}{items}</ListBucketResult>".encode()

    def do_DELETE(self) -> None:
        request = self._begin()
        if request is not None:
            self.store.objects.pop(request[0], None)
            self._answer(204, b"")

    def do_POST(self) -> None:
        """Bulk delete, which is how obstore deletes."""
        request = self._begin()
        if request is not None:
            bucket, body = request
            keys = [piece.split("</Key>")[0] for piece in body.decode().split("<Key>")[1:]]
            for key in keys:
                self.store.objects.pop(f"{bucket.rstrip('/')}/{key}", None)
            deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        if self.wrong == "flip" and body:
            body = body[:-1] + bytes([body[-1] ^ 1])
        if self.wrong == "longer":
            body += b"more"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.store.defect == "cuts" and status in (200, 206) and len(body) > self.store.cut_at:
            self.wfile.write(body[: self.store.cut_at])
            self.wfile.flush()
            self.close_connection = True
            return
        if self.wrong == "half":
            self.close_connection = True
            body = body[: len(body) // 2]
        self.wfile.write(body)


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def store_of(server: BrokenS3, patience: float = 120) -> Store:
    """The store below `p/` in the server's bucket."""
    return open_store("s3://bucket/p", StoreOptions(endpoint=server.endpoint, patience=patience))
