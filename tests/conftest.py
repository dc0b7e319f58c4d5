"""Fixtures: a cache and a home that belong to the test run, and one S3 server for all of its processes."""

from __future__ import annotations

import fcntl
import functools
import gc
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.loaders
import durations
import pytest
import services
from hypothesis import HealthCheck, settings

# Every process that tests start compiles this repository again where no bytecode is written (0.6 s of CPU), and every
# pytest-xdist worker rewrites the assertions of all test files again (5 s). Workers inherit the environment.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Every S3 client of a test parses 2 MB of JSON that describe AWS (0.4 s of CPU), unless sessions share a loader.
botocore.loaders.create_loader = functools.cache(botocore.loaders.create_loader)

# No deadlines: how long an example takes depends on how loaded the machine is. In CI the same examples every time.
# `make test-fast` sets a quarter of the examples, where a test names no number of its own.
settings.register_profile(
    "tutelage",
    deadline=None,
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", 100)),
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tutelage")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files whose tests all start Ray where they are deselected: importing Ray takes 4 seconds of CPU."""
    if "not ray" not in str(config.option.markexpr) or not collection_path.name.startswith("test_"):
        return None
    return True if re.search(r"^pytestmark = .*mark\.ray", collection_path.read_text(), re.MULTILINE) else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    """Collect without garbage collection, which walks all imported modules again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest file first; the order within a file, and of the others, stays."""
    folder = Path(__file__).parent
    items.sort(key=lambda item: -durations.SECONDS.get(item.path.relative_to(folder).as_posix(), 0))


_HOST = """
import json, pathlib, signal, sys, time
sys.path.append("tests")  # behind the root: tests/ has folders of the names of packages
from services import S3Server
folder, owner = pathlib.Path(sys.argv[1]), pathlib.Path("/proc", sys.argv[2], "stat")
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
with S3Server() as server:
    (folder / "s3.part").write_text(json.dumps(server.endpoint))
    (folder / "s3.part").rename(folder / "s3.json")
    while owner.exists() and owner.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.2)
"""


@dataclass(frozen=True)
class S3:
    """The running S3 server, as a test needs it."""

    endpoint: str
    bucket: str = services.S3Server.bucket

    @property
    def env(self) -> dict[str, str]:
        return {**_aws_environment(), "AWS_ENDPOINT_URL": self.endpoint}

    def client(self) -> Any:
        return services.s3_client(self.endpoint)


def _aws_environment() -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": services.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": services.SECRET_KEY,
        "AWS_REGION": services.REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the cache or the cloud configuration of the user who runs it."""
    folder = tmp_path_factory.mktemp("home")
    values = {
        "XDG_CACHE_HOME": str(folder / "cache"),
        "AWS_CONFIG_FILE": str(folder / "aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "aws-credentials"),
        "RAY_worker_niceness": "0",  # Ray's 15 leaves its workers no CPU while other tests run
        # Ray reads this on its first use, and ends a process that has not reached a GCS for 60 s, even one it has left.
        "RAY_gcs_rpc_server_reconnect_timeout_s": str(7 * 86_400),
        "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1,localhost"])),
    }
    with services.environment(values):
        yield


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """One seaweedfs for all pytest-xdist workers, in a process of its own, which ends when pytest does."""
    base = tmp_path_factory.getbasetemp()
    shared = "PYTEST_XDIST_WORKER" in os.environ
    folder, owner = (base.parent, os.getppid()) if shared else (base, os.getpid())
    host: subprocess.Popen[bytes] | None = None
    with (folder / "s3.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "s3.json").exists():
            command = [sys.executable, "-c", _HOST, str(folder), str(owner)]
            host = subprocess.Popen(command, cwd=Path(__file__).parents[1], start_new_session=True)
            ended = host.poll
            services.wait_until(lambda: (folder / "s3.json").exists() or ended() is not None, "the S3 server")
    server = S3(json.loads((folder / "s3.json").read_text()))
    with services.environment(server.env):
        yield server
    if host is not None and not shared:
        host.terminate()
        host.wait(30)


@pytest.fixture
def s3_url(s3: S3) -> str:
    """A prefix that no other test uses, in the server's bucket."""
    return f"s3://{s3.bucket}/{uuid.uuid4().hex}"


@pytest.fixture
def fresh_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients keep their credentials for the life of a process: a test that changes the environment needs its own."""
    from curation.storage import clients as store_clients

    monkeypatch.setattr(store_clients, "_CLIENTS", {})
