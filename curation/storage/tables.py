"""DuckDB, opened in one place: locked down, within stated memory, on local disk; and rows into its tables.

Every connection of the product comes from `connect`. SQL that runs in it opens no file but those that were named, loads
no extension and changes no setting: names and values come from other people's datasets too, and a mistake in one query
must not become a file on this machine.

Local disk fills up and is taken away. Whoever uses it does so within `local_disk`, which turns every such failure into
one `LocalDiskError` that says where the disk is and how much of it is free.
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

ROWS = 100_000  # in memory at once
_SUFFIXES = ("", ".wal", ".wal.checkpoint", ".wal.recovery")  # of the files that a database consists of
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# What DuckDB says of a disk that is full, also through Arrow, which knows no error of DuckDB's.
_SPILLED = (
    *("max_temp_directory_size", "No space left on device", "Disk quota exceeded", "File too large"),
    *("Could not write file", "Read-only file system", "Permission denied"),
)


def connect(
    path: Path | None = None, *, spill: Path, memory: str = "1GB", files: Sequence[Path] = ()
) -> duckdb.DuckDBPyConnection:
    """Open a database: at `path`, or in memory. It spills to the folder `spill` what `memory` does not hold.

    `files`: databases that its SQL may attach. Nothing else on this machine can be opened from SQL.
    """
    import duckdb

    at = ":memory:" if path is None else str(path)
    config = {
        "memory_limit": memory,
        "temp_directory": str(spill),
        "autoload_known_extensions": "false",
        "autoinstall_known_extensions": "false",
        "allow_community_extensions": "false",
        "python_enable_replacements": "false",  # a table's name is never a variable of the caller
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
    """A database on local disk for sets that may be larger than memory. It is gone afterwards, with what it spilled.

    Raises `LocalDiskError` when the disk is full, and says `what` was being computed.
    """
    with local_disk(what), tempfile.TemporaryDirectory(prefix="tutelage-") as at:
        db = connect(Path(at) / "scratch.db", spill=Path(at), memory=memory)
        with db:
            yield db


@contextmanager
def local_disk(what: str, folder: Path | None = None) -> Iterator[None]:
    """Raise `LocalDiskError` for a local disk that is full or can't be written while `what` is done.

    `folder`: where the disk is used; the folder for temporary files by default.
    """
    try:
        yield
    except Exception as error:
        if (found := disk_error(error, what, folder)) is None:
            raise
        raise found from None


def disk_error(error: Exception, what: str, folder: Path | None = None) -> LocalDiskError | None:
    """The error to show for one of DuckDB, Arrow or the system that comes of a full disk; None for any other."""
    import duckdb

    line = str(error).partition("\n")[0]
    if isinstance(error, duckdb.Error | pa.ArrowException):
        is_disk = any(sign in str(error) for sign in _SPILLED)
    else:
        is_disk = isinstance(error, OSError) and (error.errno in _FULL or _no_temporary_folder(error))
    if not is_disk:
        return None
    text = f"{what}: the local disk is full or can't be written: {line}; {_room(folder)}"
    return LocalDiskError(text, fix="free some space there, or set TMPDIR to a folder on a larger disk")


def _no_temporary_folder(error: OSError) -> bool:
    return isinstance(error, FileNotFoundError) and "usable temporary directory" in str(error)


def _room(folder: Path | None) -> str:
    """Where local files go, and how much is free there."""
    try:
        at = folder or Path(tempfile.gettempdir())
        while not at.exists():
            at = at.parent
        return f"{shutil.disk_usage(at).free:,} bytes are free at {at}"
    except OSError:
        return f"TMPDIR is {os.environ.get('TMPDIR', 'not set')}"


def insert(db: duckdb.DuckDBPyConnection, into: str, table: pa.Table | pa.RecordBatch) -> None:
    """Append rows to a table, whose columns are in the same order."""
    db.register("incoming", table)
    db.execute(f"INSERT INTO {into} SELECT * FROM incoming")
    db.unregister("incoming")


def insert_rows(db: duckdb.DuckDBPyConnection, into: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Append tuples to a table, whose columns are in the same order; of any number of them, `ROWS` are in memory."""
    left = iter(rows)
    while some := list(islice(left, ROWS)):
        columns = [pa.array(values) for values in zip(*some, strict=True)]
        insert(db, into, pa.table(columns, names=[str(place) for place in range(len(columns))]))


def text(value: object) -> str:
    """A value as a string literal of SQL, where no parameter can be bound (ATTACH, SET, CREATE VIEW)."""
    return "'" + str(value).replace("'", "''") + "'"


def quote(name: str) -> str:
    """A name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'
