"""STOPGAP by the lead until author S's module lands (local only). Author S: overwrite this file."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path
from typing import Any, NamedTuple

from curation.errors import BucketError, ChangedError, NotFoundError, StoreError


class ObjectInfo(NamedTuple):
    key: str
    size: int
    etag: str
    modified: float = 0.0


@dataclass(frozen=True)
class StoreOptions:
    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None


class Store:
    def __init__(self, url: str, options: StoreOptions | None = None) -> None:
        self.url = url if "://" in url else "file://" + str(Path(url).absolute())
        self.options = options or StoreOptions()
        self.root = Path(self.url.removeprefix("file://"))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        base = self.root / prefix
        if not self.root.is_dir():
            raise BucketError(f"{self.root} does not exist", fix="check the path")
        for path in base.rglob("*"):
            if path.is_file():
                yield self.head(str(path.relative_to(self.root)))

    def head(self, key: str) -> ObjectInfo:
        path = self.root / key
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise NotFoundError(f"no {path}") from None
        return ObjectInfo(key, len(data), md5(data).hexdigest(), path.stat().st_mtime)

    def get(self, key: str) -> bytes:
        try:
            return (self.root / key).read_bytes()
        except FileNotFoundError:
            raise NotFoundError(f"no {key}") from None

    def get_range(self, key: str, offset: int, length: int, etag: str | None = None) -> bytes:
        data = self.get(key)
        if etag and md5(data).hexdigest() != etag:
            raise ChangedError(f"{key} changed")
        if len(data) < offset + length:
            raise StoreError("short")
        return data[offset : offset + length]

    def blocks(self, key: str, size: int, etag: str | None = None, block: int = 8 << 20, offset: int = 0) -> Iterator[bytes]:
        while offset < size:
            n = min(block, size - offset)
            yield self.get_range(key, offset, n, etag)
            offset += n

    def create(self, key: str, data: bytes) -> bool:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        temp = path.parent / f".{uuid.uuid4().hex}.tmp"
        temp.write_bytes(data)
        try:
            os.link(temp, path)
        except FileExistsError:
            return path.read_bytes() == data
        finally:
            temp.unlink()
        return True

    def put(self, key: str, data: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        temp = path.parent / f".{uuid.uuid4().hex}.tmp"
        temp.write_bytes(data)
        temp.replace(path)

    def put_file(self, key: str, path: Path) -> None:
        self.put(key, Path(path).read_bytes())

    def delete(self, key: str) -> None:
        (self.root / key).unlink()

    def exists(self, key: str) -> bool:
        return (self.root / key).exists()

    def probe(self) -> None:
        pass

    def location(self, key: str) -> str:
        return f"{self.url}/{key}"

    def fsspec(self) -> Any:
        raise NotImplementedError


def open_store(url: str, options: StoreOptions | None = None) -> Store:
    return Store(url, options)


def open_object(url: str, options: StoreOptions | None = None) -> tuple[Store, str]:
    base, _, key = url.rpartition("/")
    return Store(base or ".", options), key
