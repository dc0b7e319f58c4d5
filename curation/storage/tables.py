"""DuckDB connections: locked down, with a stated memory limit, spilling to local disk; and rows into their tables.

Every connection of the product comes from `connect`. Its SQL can open only the files that were named, load no extension
and change no setting: names and values also come from untrusted datasets, and a mistake in one query must not read or
write a file on this machine.

Local disks fill up or become read-only. Code that uses one does so inside `local_disk`, which turns every such failure
into a `LocalDiskError` that names the folder and its free space.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.core.errors import LocalDiskError

if TYPE_CHECKING:
    import duckdb

ROWS = 100_000  # tuples held in memory at once
_SUFFIXES = ("", ".wal", ".wal.checkpoint", ".wal.recovery")  # suffixes of the files of one database
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# DuckDB's messages about a full disk; they also arrive inside Arrow errors, which don't keep DuckDB's error class.
_SPILLED = (
    *("max_temp_directory_size", "No space left on device", "Disk quota exceeded", "File too large"),
    *("Could not write file", "Read-only file system", "Permission denied"),
)


def connect(
    path: Path | None = None, *, spill: Path, memory: str = "1GB", files: Sequence[Path] = ()
) -> duckdb.DuckDBPyConnection:
    """Open a database at `path`, or in memory for None.

    `spill`: the folder for what exceeds `memory`. `files`: databases that SQL may attach; SQL can open no other file.
    """
    import duckdb

    at = ":memory:" if path is None else str(path)
    config = {
        "memory_limit": memory,
        "temp_directory": str(spill),
        "autoload_known_extensions": "false",
        "autoinstall_known_extensions": "false",
        "allow_community_extensions": "false",
        "python_enable_replacements": "false",  # SQL can't read the caller's Python variables as tables
    }
    db = duckdb.connect(at, config=config)
    allowed = [text(f"{file}{suffix}") for file in files for suffix in _SUFFIXES]
    db.execute("SET preserve_insertion_order = false")
    if allowed:
        db.execute(f"SET allowed_paths = [{', '.join(allowed)}]")
    db.execute("SET enable_external_access = false; SET lock_configuration = true")
    return db


@contextmanager
def scratch(memory: str = "1GB", what: str = "a table") -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a temporary database on local disk, for sets that may exceed memory; it is deleted when the block ends.

    `memory`: DuckDB's memory limit. Raises `LocalDiskError` when the disk is full; the message names `what` was being
    computed.
    """
    with local_disk(what), tempfile.TemporaryDirectory(prefix="tutelage-") as at:
        db = connect(Path(at) / "scratch.db", spill=Path(at), memory=memory)
        with db:
            yield db


@contextmanager
def local_disk(what: str, folder: Path | None = None) -> Iterator[None]:
    """Raise `LocalDiskError` if the local disk turns out to be full or not writable while the block runs.

    `what` is named in the message. `folder`: where the files are; by default the folder for temporary files.
    """
    try:
        yield
    except Exception as error:
        if (found := disk_error(error, what, folder)) is None:
            raise
        raise found from None


def disk_error(error: Exception, what: str, folder: Path | None = None) -> LocalDiskError | None:
    """Return the `LocalDiskError` for an error of DuckDB, Arrow or the system caused by a full disk; None for others.

    `what` and `folder`: see `local_disk`.
    """
    import duckdb

    line = str(error).partition("\n")[0]
    if isinstance(error, duckdb.Error | pa.ArrowException):
        is_disk = any(sign in str(error) for sign in _SPILLED)
    else:
        is_disk = isinstance(error, OSError) and (error.errno in _FULL or _no_temporary_folder(error))
    if not is_disk:
        return None
    text = f"{what}: the local disk is full or not writable: {line}; {_free_space(folder)}"
    return LocalDiskError(text, fix="free some space there, or set TMPDIR to a folder on a larger disk")


def _no_temporary_folder(error: OSError) -> bool:
    return isinstance(error, FileNotFoundError) and "usable temporary directory" in str(error)


def _free_space(folder: Path | None) -> str:
    """The free space of the folder, in words."""
    try:
        at = folder or Path(tempfile.gettempdir())
        while not at.exists():
            at = at.parent
        return f"{shutil.disk_usage(at).free:,} bytes are free at {at}"
    except OSError:
        return f"TMPDIR is {os.environ.get('TMPDIR', 'not set')}"


def insert(db: duckdb.DuckDBPyConnection, into: str, table: pa.Table | pa.RecordBatch) -> None:
    """Append the rows of an Arrow table to the table `into`, whose columns have the same order."""
    db.register("incoming", table)
    db.execute(f"INSERT INTO {into} SELECT * FROM incoming")
    db.unregister("incoming")


def insert_rows(db: duckdb.DuckDBPyConnection, into: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Append any number of tuples to the table `into`, whose columns have the same order; holds `ROWS` in memory."""
    left = iter(rows)
    while some := list(islice(left, ROWS)):
        columns = [pa.array(values) for values in zip(*some, strict=True)]
        insert(db, into, pa.table(columns, names=[str(place) for place in range(len(columns))]))


def text(value: object) -> str:
    """Quote a value as an SQL string literal, for statements that take no parameters (ATTACH, SET, CREATE VIEW)."""
    return "'" + str(value).replace("'", "''") + "'"


def quote(name: str) -> str:
    """Quote a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
