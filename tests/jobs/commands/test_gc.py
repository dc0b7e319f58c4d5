"""`curate gc` of datasets and of the scores that they share; what it spares."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from builders import PLAIN, write_corpus, write_recipe
from click.testing import CliRunner
from running import curate

import curation as cu
from curation.core.errors import BucketError, LedgerError, NoSnapshotError, NotFoundError, UserError
from curation.core.types import ShardRef
from curation.curating import garbage, score_store
from curation.ledger.ledger import Ledger, unit_id
from curation.storage.store import Store, open_store
from jobs.cli import cli
from jobs.commands.gc import gc

pytestmark = pytest.mark.slow


def swept(url: Path, *arguments: str) -> list[str]:
    result = CliRunner().invoke(gc, [str(url), "--json", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: list[str] = json.loads(result.stdout)["objects"]
    return found


def age(root: Path, seconds: float = 7200) -> None:
    """All that lies there was put so long ago."""
    past = time.time() - seconds
    for path in root.rglob("data/*"):
        os.utime(path, (past, past))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A dataset `cur`, whose scores lie beside it in `cur-shared`, with a table there that no record names."""
    write_corpus(tmp_path / "corpus", 1, 10)
    curate(write_recipe(tmp_path / "r.yaml", f"{tmp_path}/corpus", f"{tmp_path}/cur", "", "",
                        scores=f"{tmp_path}/cur-shared", **PLAIN))  # fmt: skip
    leave(tmp_path / "cur-shared")
    return tmp_path


def leave(root: Path, age: float = 0) -> Path:
    """The objects of a worker that was killed before its commit."""
    item = Ledger(open_store(str(root))).put_data(unit_id(ShardRef("0.tar", 1, "e"), "f"), b"table", "parquet")
    past = time.time() - age
    os.utime(root / item.key, (past, past))
    return root / item.key


def test_shared_scores_are_swept_when_they_are_named(home: Path) -> None:
    assert swept(home / "cur-shared", "--grace", "1h") == [], "it is young"
    age(home)
    assert swept(home / "cur", "--grace", "1h") == [], "its neighbour is not its own"
    (found,) = swept(home / "cur-shared", "--grace", "1h", "--dry-run")
    assert Path(found.removeprefix("file://")).exists() and swept(home / "cur-shared") == [], "it is younger than a day"
    assert swept(home / "cur-shared", "--grace", "1h") == [found]
    assert swept(home / "cur-shared", "--grace", "1h") == []
    curate(home / "r.yaml")  # all that is named is there


def test_scores_below_a_dataset_are_swept_with_it(home: Path) -> None:
    curate(home / "r.yaml", f"scores={home}/cur/scores", "filters=[]")
    left = leave(home / "cur/scores")
    age(home)
    assert [Path(url).name for url in swept(home / "cur", "--grace", "1h")] == [left.name]


@pytest.mark.parametrize("grace", ["0s", "0h", "59m"])
def test_a_short_grace_is_a_mistake_of_one_line(home: Path, grace: str) -> None:
    age(home)
    for arguments in (["gc", f"{home}/cur-shared"], ["scores", "gc", f"{home}/cur-shared", "--keep", f"{home}/r.yaml"]):
        with pytest.raises(UserError, match="too short") as raised:
            CliRunner().invoke(cli, [*arguments, "--grace", grace], catch_exceptions=False)
        assert "1h or more" in raised.value.fix


@pytest.mark.parametrize("how", ["record deleted", "record says nothing"])
def test_shards_of_a_snapshot_stay_whatever_its_records_say(home: Path, how: str) -> None:
    """The advice of an earlier error: a record is deleted, the next run has nothing to do, and gc runs days later."""
    for record in (home / "cur/units").iterdir():
        record.unlink() if how == "record deleted" else record.write_text('{"kind": "write"}')
    age(home, 3 * 86_400)
    uids = [sample.uid for sample in cu.open(f"{home}/cur").samples()]
    if how == "record deleted":
        assert swept(home / "cur") == []
    else:
        with pytest.raises(LedgerError, match=r"fields .* are missing or invalid"):
            swept(home / "cur")
    assert [sample.uid for sample in cu.open(f"{home}/cur").samples()] == uids


def test_a_store_of_nothing_but_leavings_is_one_and_a_mistake_is_none(tmp_path: Path) -> None:
    leave(tmp_path / "scores", age=90_000)
    assert len(swept(tmp_path / "scores")) == 1
    (tmp_path / "mine/data").mkdir(parents=True)
    (tmp_path / "mine/data/train.parquet").write_bytes(b"mine")
    for name in ("mine", "nothing", "scores"):
        with pytest.raises((NoSnapshotError, BucketError)):
            swept(tmp_path / name, "--grace", "1h")
    assert (tmp_path / "mine/data/train.parquet").exists()


def test_what_is_killed_between_its_two_deletes_can_be_swept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = Ledger(open_store(f"{home}/cur-shared"))
    age(home, 3 * 86_400)
    delete = Store.delete

    def only_records(store: Store, key: str) -> None:
        if key.startswith("data/"):
            raise KeyboardInterrupt
        delete(store, key)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Store, "delete", only_records)
        score_store.take_out(scored, [], delete=True)
    assert len(swept(home / "cur-shared", "--grace", "1h")) == 2


def test_scores_gc_deletes_nothing_where_a_record_cannot_be_read(home: Path) -> None:
    age(home, 3 * 86_400)
    (home / "cur-shared/units/ff.json").write_text("{}")
    before = sorted((home / "cur-shared").rglob("*"))
    with pytest.raises(LedgerError, match="field `kind` is missing or invalid"):
        score_store.take_out(Ledger(open_store(f"{home}/cur-shared")), [], delete=True)
    assert sorted((home / "cur-shared").rglob("*")) == before


def test_scores_gc_leaves_young_data_to_gc(home: Path) -> None:
    scored, before = Ledger(open_store(f"{home}/cur-shared")), set(home.glob("cur-shared/data/*"))
    assert len(score_store.take_out(scored, [], delete=True)) == 1
    assert not list(home.glob("cur-shared/units/*")) and set(home.glob("cur-shared/data/*")) == before
    age(home)
    assert len(swept(home / "cur-shared", "--grace", "1h")) == len(before)


def test_a_record_that_goes_while_it_is_read_names_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    get = Store.get

    def gone(store: Store, key: str) -> bytes:
        if key.startswith("units/"):
            raise NotFoundError(key)
        return get(store, key)

    monkeypatch.setattr(Store, "get", gone)
    age(home)
    ledgers = [Ledger(open_store(f"{home}/cur-shared"))]
    assert len(garbage.sweep(ledgers, grace=garbage.MIN_GRACE, delete=False)) > 1
