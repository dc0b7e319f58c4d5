"""Another's dataset is data: what its manifest and its list of matches say never becomes SQL, a file or an escape."""

from __future__ import annotations

import json
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from builders import PLAIN, write_corpus, write_recipe
from running import curate

import curation as cu
from curation.core.digest import canonical
from curation.core.errors import LedgerError, UserError
from curation.dataset.snapshot import Snapshot
from curation.ledger.ledger import Ledger
from curation.storage.parquet import to_parquet
from jobs.cli import _main
from jobs.commands.matches import find_matches
from jobs.pages import groups as groups_page
from jobs.pages import matches as matches_page
from jobs.pages.matches import facts

pytestmark = pytest.mark.slow

INJECTION = "x') UNION SELECT * FROM manifest; COPY (SELECT 1) TO '{0}/written' --"


@pytest.fixture
def dataset(tmp_path: Path) -> Snapshot:
    corpus = write_corpus(tmp_path / "corpus", 1, 10, flaws=False)
    recipe = write_recipe(tmp_path / "recipe.yaml", str(corpus), str(tmp_path / "out"), "", "", **PLAIN)
    return curate(recipe).snapshot


def rewritten(snapshot: Snapshot, name: str, table: pa.Table) -> dict[str, Any]:
    """The reference of a document to a Parquet object that this function puts."""
    return Ledger(snapshot.store).put_data(name, to_parquet(table), "parquet").to_json()


def with_document(snapshot: Snapshot, **changes: Any) -> Snapshot:
    path = Path(snapshot.store.location("snapshots/000001.json").removeprefix("file://"))
    path.write_bytes(canonical({**json.loads(path.read_text()), **changes}))
    return cu.open(str(path.parent.parent))


def with_uid(snapshot: Snapshot, uid: str) -> Snapshot:
    """The snapshot with another first uid in its manifest, and hashes that fit."""
    (part,) = snapshot.parts.to_pylist()
    table = snapshot.table(part)
    uids = pa.array([uid, *table.column("uid").to_pylist()[1:]])
    new = rewritten(snapshot, "part", table.set_column(0, "uid", uids))
    parts = pa.Table.from_pylist([{**part, **new}], snapshot.parts.schema)
    return with_document(snapshot, manifest=rewritten(snapshot, "manifest", parts))


def test_a_uid_that_is_sql_is_refused_where_a_manifest_is_read(dataset: Snapshot, tmp_path: Path) -> None:
    uid = INJECTION.format(tmp_path)
    hostile = with_uid(dataset, uid)
    for read in (lambda: facts(hostile, [uid]), lambda: hostile.manifest.to_arrow(), hostile.weights):
        with pytest.raises(LedgerError, match="is not a uid"):
            read()
    assert not (tmp_path / "written").exists()


def test_a_uid_that_is_sql_is_bound_and_never_run(dataset: Snapshot, tmp_path: Path) -> None:
    known = dataset.manifest.to_arrow(["uid"]).column("uid").to_pylist()[0]
    assert set(facts(dataset, [INJECTION.format(tmp_path), known])) == {known}
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize("column", ["uid", "other"])
def test_a_list_of_matches_names_uids_only(column: str, dataset: Snapshot, tmp_path: Path) -> None:
    row = {"uid": "0" * 32, "filter": "f", "how": "exact", "value": 1.0, "against": "a", "other": "0" * 32}
    table = pa.Table.from_pylist([{**row, column: INJECTION.format(tmp_path)}])
    hostile = with_document(dataset, matches=rewritten(dataset, "matches", table), against={"a": 1})
    with pytest.raises(LedgerError, match=f"in column {column} is not a uid"):
        find_matches(hostile, None, 10)


def test_what_a_document_names_and_the_manifest_lacks_is_said_on_the_page(dataset: Snapshot) -> None:
    row = {
        "uid": "0" * 32,
        "filter": "f",
        "how": "exact",
        "value": 1.0,
        "against": dataset.store.url,
        "other": "1" * 32,
    }
    page = matches_page.page(dataset, [row], 1)
    assert page.count("not in the manifest of") == 2 and "0" * 32 in page
    group = {"filter": "<b>f</b>", "samples": 99, "stays": "0" * 32, "goes": ["1" * 32] * 50}
    page = groups_page.page(with_document(dataset, groups=[group]), [group])
    assert page.count("(not in the manifest)") == 1 + 6 and "<b>f" not in page
    with pytest.raises(LedgerError, match=r"groups\[0\].stays"):
        with_document(dataset, groups=[{**group, "stays": INJECTION}])


def test_a_query_of_a_manifest_opens_no_file(dataset: Snapshot, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    for sql in (f"FROM read_text('{secret}')", f"COPY (SELECT 1) TO '{tmp_path}/written'", f"FROM '{secret}'"):
        with pytest.raises(UserError, match="manifest query"):
            dataset.manifest.query(sql)
    assert not (tmp_path / "written").exists()
    rows = dataset.manifest.query("SELECT count(*) AS n FROM manifest WHERE key = $key", ["key"], {"key": "' OR true"})
    assert rows.to_pylist() == [{"n": 0}]


KEY = "\x1b[2J\x1b]0;owned\x07\u202erat.tar"


@pytest.fixture
def escapes(tmp_path: Path) -> Path:
    """Two snapshots of a corpus whose shards and samples have names that a terminal would obey."""
    corpus = write_corpus(tmp_path / "corpus", 1, 30)
    (corpus / "00000.tar").rename(corpus / KEY)
    with tarfile.open(corpus / "b.tar", "w") as tar:
        for name in ("\x1b[31mred.png", "\x1b[31mred.txt", "\u202ereversed.png", "\u202ereversed.txt"):
            member = tarfile.TarInfo(name)
            member.size = 9
            tar.addfile(member, BytesIO(b"a caption"))
    recipe = write_recipe(tmp_path / "recipe.yaml", str(corpus), str(tmp_path / "out"), "", "", **PLAIN)
    curate(recipe)
    (corpus / KEY).rename(corpus / f"new{KEY}")
    curate(recipe)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "{0}/out"),
        ("quarantine", "ls", "{0}/out"),
        ("diff", "{0}/out@1", "{0}/out@2"),
        ("groups", "{0}/out"),
        ("status", "{0}/recipe.yaml"),
        ("what-if", "{0}/recipe.yaml", "--no-keep"),
        ("show", "{0}/out" + KEY),
        ("gc", "{0}/out", "--dry-run"),
    ],
    ids=" ".join,
)
def test_no_command_prints_what_a_terminal_obeys(
    arguments: tuple[str, ...], escapes: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = _main([argument.format(escapes) for argument in arguments])
    told = capfd.readouterr()
    assert code == (2 if KEY in arguments[-1] else 0), told.err
    said = told.out + told.err
    assert said and not {letter for letter in said if letter != "\n" and not letter.isprintable()}
    if arguments[0] in ("quarantine", "diff"):
        assert "\\x1b[2J" in said and "\\u202erat.tar" in said


def test_json_and_pages_carry_names_as_they_are_without_what_a_terminal_obeys(
    escapes: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _main(["quarantine", "ls", f"{escapes}/out@1", "--json"]) == 0
    text = capfd.readouterr().out
    assert text.replace("\n", "").isprintable()
    assert KEY in {row["source_key"] for row in json.loads(text)}
