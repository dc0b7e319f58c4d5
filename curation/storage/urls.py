"""URLs and options of stores. Neither holds secrets.

Accepted: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` (also `abfs://`, with or without
`@account`), `memory://name`, `file:///directory` and plain paths. Everything else is refused, because the libraries
below would follow `pipe:` (a shell command) or `http:` (the metadata service of a cloud machine).
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


PATIENCE, LONGEST = 120.0, 86_400  # seconds: the default patience, and the maximum


class ObjectInfo(NamedTuple):
    """One object in a listing. `size` is in bytes; `etag` has no quotes.

    `modified` (seconds since 1970) is only for display and for the grace period of `curate gc`.
    """

    key: str
    size: int
    etag: str
    modified: float = 0.0


@dataclass(frozen=True)
class StoreOptions:
    """The endpoint, region and profile with which to access a store. Credentials come from the store's own chain.

    `patience` is the retry budget: the seconds that a call may fail without progress before it is abandoned.
    """

    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        if isinstance(self.patience, bool) or not 0 <= self.patience <= LONGEST:  # NaN is neither
            fix = f"set it to a number of seconds from 0 to {LONGEST:,}"
            raise UserError(f"store.patience is {self.patience}, which is out of range", fix=fix)
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
        """The canonical URL."""
        if self.scheme == "file":
            return f"file://{self.prefix}"
        at = f"@{self.account}" if self.account else ""
        scheme = "abfs" if at else self.scheme
        return f"{scheme}://{self.bucket}{at}" + (f"/{self.prefix}" if self.prefix else "")


def parse(url: str) -> Location:
    """Parse the URL or path of a store. Raises `UserError` for one that the module's docstring does not list."""
    if "\0" in url or not url.strip():
        raise UserError("the URL of a store is empty or contains a NUL", fix=f"write {ALLOWED}")
    scheme, separator, rest = url.partition("://")
    if scheme == "file" and separator:
        if not rest.startswith("/"):
            raise UserError(f"{url} does not name a directory of this machine", fix="write file:///absolute/path")
        return Location("file", "", _absolute(rest))
    if separator and scheme in SCHEMES:
        return _bucket(SCHEMES[scheme], rest)
    if separator or (_SCHEME.match(url) and not url.startswith((".", "/"))):
        name = url.split(":")[0][:40]  # the rest may contain a password
        raise UserError(f"{name}: is not a supported URL scheme", fix=f"write {ALLOWED}")
    return Location("file", "", _absolute(str(Path(url).expanduser())))


def _bucket(scheme: str, rest: str) -> Location:
    bucket, _, prefix = rest.partition("/")
    bucket, at, host = bucket.partition("@")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", bucket):
        fix = f"write {ALLOWED}, without credentials"
        raise UserError(f"{scheme}://... does not name a bucket", fix=fix)
    if at and scheme != "az":
        fix = "remove credentials from the URL; set them in the environment or in a profile"
        raise UserError(f"{scheme}://... contains an @", fix=fix)
    account = host.split(".")[0]
    if at and not re.fullmatch(r"[a-z0-9]{3,24}", account):  # the account becomes part of a host name
        raise UserError(f"{scheme}://{bucket}@... does not name an account", fix=f"write {ALLOWED}")
    prefix = prefix.strip("/")
    if prefix:
        check_key(prefix)
    return Location(scheme, bucket, prefix, account)


def absolute_url(url: str) -> str:
    """Make a path (or pattern) absolute, so that a worker with another working directory opens the same place.

    A URL with a scheme is returned unchanged.
    """
    return url if "://" in url else _absolute(str(Path(url).expanduser()))


def _absolute(path: str) -> str:
    import os.path

    return os.path.abspath(re.sub(r"^/+", "/", path))  # noqa: PTH100  (Path.absolute keeps "..", resolve follows links)


def check_key(key: str) -> None:
    """Raise `UserError` unless the key is a relative path of plain segments, which can't lead outside the root."""
    if not key or "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
        fix = "write a key like folder/name.tar, without empty parts, `.` and `..`"
        raise UserError(f"{key[:200]!r} is not a valid key", fix=fix)
