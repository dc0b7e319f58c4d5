"""Etags of local files: the md5 of the content, as S3 computes for a single put, so that copies keep their etag.

Hashing reads the file once, at about 400 MB/s a core. The result is cached in `$XDG_CACHE_HOME/tutelage/etags.sqlite`
under path, size, mtime, ctime and inode. The kernel updates ctime on every change of bytes, name or times, and no
program can set it back, so a file whose mtime was restored after an edit is hashed again. The cache only saves time:
without it (locked, read-only, damaged) everything works, and files are hashed again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import md5
from pathlib import Path
from typing import Any, NamedTuple

from curation.core.cache import cache_folder
from curation.core.errors import StoreError

_BLOCK = 1 << 20
_MEMORY = 20_000  # entries held in memory, about 6 MB
_TICK = 50_000_000  # ns. The kernel's file times have a coarse clock (4-10 ms): two writes in one tick look alike
_COARSE_TICK = 2_100_000_000  # ns. FAT and ext3 count in (two) seconds
_SCHEMA = """CREATE TABLE IF NOT EXISTS etags (path BLOB PRIMARY KEY, size INTEGER, mtime INTEGER, ctime INTEGER,
inode INTEGER, etag TEXT, seal TEXT) WITHOUT ROWID"""


_Statement = Callable[[sqlite3.Connection], Any]


class Signature(NamedTuple):
    """The metadata of a file; at least one field changes whenever the bytes change."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Signature:
        """Return the signature of a file from its `stat`."""
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)

    def settled(self, now_ns: int) -> bool:
        """Whether a further write must change the signature. Files that changed too recently are not cached."""
        tick = _TICK if self.ctime_ns % 1_000_000_000 else _COARSE_TICK
        return self.ctime_ns + tick < now_ns


def measure(fd: int, path: str) -> tuple[Signature, str]:
    """Return signature and etag of one state of the open file. Raises `StoreError` for a file that keeps changing."""
    for attempt in range(5):
        before = Signature.of(os.fstat(fd))
        known = CACHE.get(path, before)
        if known:
            return before, known
        started = time.time_ns()
        digest, position = md5(usedforsecurity=False), 0
        while block := os.pread(fd, _BLOCK, position):
            digest.update(block)
            position += len(block)
        if Signature.of(os.fstat(fd)) == before and position == before.size:
            if before.settled(started):
                CACHE.put([(path, before, digest.hexdigest())])
            return before, digest.hexdigest()
        time.sleep(0.01 * 2**attempt)
    raise StoreError(f"{path} is being written to", fix="run again when it is complete")


class EtagCache:
    """The sqlite cache and its in-memory front. Every sqlite failure counts as a miss: see the module's docstring."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._front: dict[str, tuple[Signature, str]] = {}
        self._database: sqlite3.Connection | None = None
        self._file = ""

    def get(self, path: str, signature: Signature) -> str | None:
        """Return the etag cached for this state of the file, or None."""
        with self._lock:
            seen = self._front.get(path)
            if seen is None or seen[0] != signature:
                seen = self._select(path)
            return seen[1] if seen and seen[0] == signature else None

    def put(self, rows: Iterable[tuple[str, Signature, str]]) -> None:
        """Cache (path, signature, etag) of each row."""
        with self._lock:
            if len(self._front) > _MEMORY:
                self._front.clear()
            rows = list(rows)
            self._front.update((path, (signature, etag)) for path, signature, etag in rows)
            values = [(os.fsencode(p), *s, etag, _seal(p, s, etag)) for p, s, etag in rows]
            self._run(lambda db: db.executemany("INSERT OR REPLACE INTO etags VALUES (?,?,?,?,?,?,?)", values))

    def _select(self, path: str) -> tuple[Signature, str] | None:
        row = self._run(lambda db: db.execute("SELECT * FROM etags WHERE path = ?", (os.fsencode(path),)).fetchone())
        if row is None:
            return None
        signature, etag = Signature(*row[1:5]), row[5]
        if row[6] != _seal(path, signature, etag):  # a damaged row counts as a miss
            return None
        return signature, etag

    def _run(self, statement: _Statement) -> Any:
        try:
            database = self._open()
            with database:  # one short transaction: many processes share the file
                return statement(database)
        except sqlite3.OperationalError:
            return None  # locked for longer than 0.2 s, read-only or full: hash the file again instead of waiting
        except (sqlite3.DatabaseError, OSError):
            self._discard()  # not a database, or a damaged one: start an empty one, since it is only a cache
            return None

    def _open(self) -> sqlite3.Connection:
        file = str(cache_folder() / "etags.sqlite")
        if self._database is None or self._file != file:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            # not WAL: its shared memory does not work for home directories on NFS
            database = sqlite3.connect(file, timeout=0.2, check_same_thread=False)
            database.execute("PRAGMA synchronous = OFF")  # a power cut may damage the file; seals detect damaged rows
            database.execute(_SCHEMA)
            self._database, self._file = database, file
            self._front.clear()
        return self._database

    def _discard(self) -> None:
        self._database = None
        for suffix in ("", "-journal"):
            with suppress(OSError):
                Path(str(cache_folder() / "etags.sqlite") + suffix).unlink(missing_ok=True)

    def after_fork(self) -> None:
        """Start empty in a forked child, which must neither use the parent's connection nor wait for its locks."""
        _PARENTS.append(self._database)  # never closed, because closing would release the parent's file locks
        self._reset()


def _seal(path: str, signature: Signature, etag: str) -> str:
    text = os.fsencode(path) + repr((tuple(signature), etag)).encode()
    return md5(text, usedforsecurity=False).hexdigest()[:16]


_PARENTS: list[sqlite3.Connection | None] = []
CACHE = EtagCache()
os.register_at_fork(after_in_child=CACHE.after_fork)
