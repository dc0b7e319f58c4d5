"""DuckDB is opened in one place, locked down; a full disk is one line."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

import actors
import curation
import jobs
from curation.core.errors import LocalDiskError
from curation.storage import tables

ESCAPES = [
    "COPY (SELECT 1) TO '{0}/written.csv'",
    "FROM read_text('/etc/passwd')",
    "FROM '/etc/passwd'",
    "FROM glob('/etc/*')",
    "ATTACH '{0}/other.duckdb' AS other",
    "EXPORT DATABASE '{0}/export'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET memory_limit = '1TB'",
    "SET allowed_directories = ['/']",
]


@pytest.mark.parametrize("sql", ESCAPES)
@pytest.mark.parametrize("on_disk", [False, True])
def test_sql_reaches_no_file_and_no_setting(sql: str, on_disk: bool, tmp_path: Path) -> None:
    spill = tmp_path / "spill"
    spill.mkdir()
    with tables.connect(spill / "a.duckdb" if on_disk else None, spill=spill) as db, pytest.raises(duckdb.Error):
        db.execute(sql.format(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"spill"}


def test_a_table_is_never_a_variable_of_the_caller(tmp_path: Path) -> None:
    incoming = pa.table({"a": [1]})
    with tables.connect(spill=tmp_path) as db, pytest.raises(duckdb.CatalogException):
        db.execute("FROM incoming")
    assert incoming.num_rows == 1


def test_what_is_named_may_be_attached_and_written(tmp_path: Path) -> None:
    file = tmp_path / "it's.duckdb"
    (tmp_path / "spill").mkdir()
    with tables.connect(spill=tmp_path / "spill", files=[file]) as db:
        db.execute(f"ATTACH {tables.text(file)} AS named; CREATE TABLE named.t AS SELECT 1 AS a; DETACH named")
        db.execute(f"ATTACH {tables.text(file)} AS named (READ_ONLY)")
        assert db.execute("FROM named.t").fetchall() == [(1,)]


def test_nobody_else_opens_duckdb() -> None:
    found = {}
    for package in (curation, actors, jobs):
        for path in Path(package.__path__[0]).rglob("*.py"):
            if re.search(
                r"duckdb\s*\.\s*connect|duckdb\.(sql|query|execute|read_)|from duckdb import", path.read_text()
            ):
                found[path.name] = path
    assert set(found) == {"tables.py"}


_FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
from pathlib import Path
from curation.storage import tables
from curation.core.errors import LocalDiskError
folder = Path({folder!r})
try:
    with tables.local_disk("sorting many", folder), tables.connect({path}, spill=folder, memory="40MB") as db:
        db.execute("CREATE TABLE t AS SELECT uuid() AS a, uuid() AS b FROM range(2_000_000)")
except LocalDiskError as error:
    print(error, error.exit_code)
"""


@pytest.mark.slow
@pytest.mark.parametrize("path", ["None", "folder / 'a.duckdb'"])
def test_a_disk_that_takes_no_more_is_one_line(path: str, tmp_path: Path) -> None:
    """Files of at most 3 MB, for real: of a database, and of what one in memory spills."""
    code = _FULL.format(folder=str(tmp_path), path=path)
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"sorting many: the local disk is full .* bytes are free at \S+ 3\n", done.stdout), done.stdout
    assert str(tmp_path) in done.stdout


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS])
def test_a_full_disk_is_the_same_line_whoever_meets_it(code: int, tmp_path: Path) -> None:
    with pytest.raises(LocalDiskError, match="bytes are free at"), tables.local_disk("writing", tmp_path / "gone"):
        raise OSError(code, "no room")


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), tables.local_disk("reading"):
        raise PermissionError(errno.EACCES, "not yours")
    with pytest.raises(duckdb.BinderException), tables.scratch() as db:
        db.execute("SELECT nothing")
