"""What the URL of a store may be, and what is known about a store besides its URL. No secrets in either.

`s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` (also `abfs://`, with or without `@account`),
`memory://name`, `file:///directory` and plain paths. Everything else is refused: libraries below us would happily
follow `pipe:` (a shell command) or `http:` (the metadata address of a cloud machine).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from curation.core.errors import UserError
from curation.storage.endpoints import check_endpoint

SCHEMES = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gs",
    "gcs": "gs",
    "az": "az",
    "abfs": "az",
    "abfss": "az",
    "memory": "memory",
}
ALLOWED = "a path, file:///directory, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or memory://name"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=:)")


PATIENCE, LONGEST = 120.0, 86_400  # seconds


class ObjectInfo(NamedTuple):
    """One object. `etag` has no quotes. `modified` (seconds since 1970) is for people, and for gc's grace period."""

    key: str
    size: int
    etag: str
    modified: float = 0.0


@dataclass(frozen=True)
class StoreOptions:
    """Where and as whom to talk to a store. Credentials themselves are found by the store's own chain, never kept here.

    `patience` is the retry budget: seconds that a call may go on failing without any progress before it is given up.
    """

    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        if isinstance(self.patience, bool) or not 0 <= self.patience <= LONGEST:  # NaN is neither
            raise UserError(f"store.patience is {self.patience}", fix=f"a number of seconds up to {LONGEST:,}")
        if self.endpoint is not None:
            check_endpoint(self.endpoint)


class Location(NamedTuple):
    """A parsed URL. `bucket` is empty for files, and `prefix` is then the absolute directory."""

    scheme: str
    bucket: str
    prefix: str
    account: str = ""  # Azure only

    @property
    def url(self) -> str:
        if self.scheme == "file":
            return f"file://{self.prefix}"
        at = f"@{self.account}" if self.account else ""
        scheme = "abfs" if at else self.scheme
        return f"{scheme}://{self.bucket}{at}" + (f"/{self.prefix}" if self.prefix else "")


def parse(url: str) -> Location:
    """Raises `UserError` for a URL that is not one of ours."""
    if "\0" in url or not url.strip():
        raise UserError("the URL of a store is empty or holds a NUL", fix=f"write {ALLOWED}")
    scheme, separator, rest = url.partition("://")
    if scheme == "file" and separator:
        if not rest.startswith("/"):
            raise UserError(f"{url} does not name a directory of this machine", fix="write file:///absolute/path")
        return Location("file", "", _absolute(rest))
    if separator and scheme in SCHEMES:
        return _bucket(SCHEMES[scheme], rest)
    if separator or (_SCHEME.match(url) and not url.startswith((".", "/"))):
        name = url.split(":")[0][:40]  # what follows may hold a password
        raise UserError(f"{name}: is not a scheme that data is read from or written to", fix=f"write {ALLOWED}")
    return Location("file", "", _absolute(str(Path(url).expanduser())))


def _bucket(scheme: str, rest: str) -> Location:
    bucket, _, prefix = rest.partition("/")
    bucket, at, host = bucket.partition("@")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", bucket):
        raise UserError(
            f"{scheme}://... does not name a bucket", fix=f"write {ALLOWED}; credentials do not go in a URL"
        )
    if at and scheme != "az":
        raise UserError(
            f"{scheme}://... holds an @", fix="credentials do not go in a URL: use the environment or a profile"
        )
    account = host.split(".")[0]
    if at and not re.fullmatch(r"[a-z0-9]{3,24}", account):  # it becomes part of a host name
        raise UserError(f"{scheme}://{bucket}@... does not name an account", fix=f"write {ALLOWED}")
    prefix = prefix.strip("/")
    if prefix:
        check_key(prefix)
    return Location(scheme, bucket, prefix, account)


def anywhere(url: str) -> str:
    """The URL (or pattern) as a worker with another working directory means it: a path made absolute."""
    return url if "://" in url else _absolute(str(Path(url).expanduser()))


def _absolute(path: str) -> str:
    # absolute, so that a worker with another working directory means the same place; links are left as they are
    import os.path

    return os.path.abspath(re.sub(r"^/+", "/", path))  # noqa: PTH100  (Path.absolute keeps "..", resolve follows links)


def check_key(key: str) -> None:
    """Keys are relative paths of plain segments: the same on a disk and in a bucket, and never outside the root."""
    if not key or "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise UserError(
            f"{key[:200]!r} is not a key", fix="keys are like folder/name.tar: no empty part, no . and no .."
        )
