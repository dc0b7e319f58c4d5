"""`curate gc` of datasets and of the scores that they share; what it spares."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from builders import PLAIN, curate, score_record, write_corpus, write_recipe
from click.testing import CliRunner

from curation import garbage, score_store, scores
from curation.data import ShardRef
from curation.documents import ScoreRecord
from curation.errors import BucketError, NoSnapshotError, NotFoundError
from curation.ledger import Ledger, unit_id
from curation.store import Store, open_store
from jobs.gc import gc


def swept(url: Path, *arguments: str) -> list[str]:
    result = CliRunner().invoke(gc, [str(url), "--json", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: list[str] = json.loads(result.stdout)["objects"]
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A dataset `cur`, whose scores lie beside it in `cur-shared`, with a table there that no record names."""
    write_corpus(tmp_path / "corpus", 1, 10)
    curate(write_recipe(tmp_path / "r.yaml", f"{tmp_path}/corpus", f"{tmp_path}/cur", "", "",
                        scores=f"{tmp_path}/cur-shared", **PLAIN))  # fmt: skip
    leave(tmp_path / "cur-shared")
    return tmp_path


def leave(root: Path, age: float = 0) -> Path:
    """What a worker leaves that was killed before it committed."""
    item = Ledger(open_store(str(root))).put_data(unit_id(ShardRef("0.tar", 1, "e"), "f"), b"table", "parquet")
    past = time.time() - age
    os.utime(root / item.key, (past, past))
    return root / item.key


def test_shared_scores_are_swept_when_they_are_named(home: Path) -> None:
    assert swept(home / "cur", "--grace", "0s") == [], "its neighbour is not its own"
    (found,) = swept(home / "cur-shared", "--grace", "0s", "--dry-run")
    assert found.endswith(leave(home / "cur-shared").name) and swept(home / "cur-shared") == [], "it is young"
    assert swept(home / "cur-shared", "--grace", "0s") == [found]
    assert swept(home / "cur-shared", "--grace", "0s") == []
    curate(home / "r.yaml")  # all that is named is there


def test_scores_below_a_dataset_are_swept_with_it(home: Path) -> None:
    curate(home / "r.yaml", f"scores={home}/cur/scores", "filters=[]")
    left = leave(home / "cur/scores")
    assert [Path(url).name for url in swept(home / "cur", "--grace", "0s")] == [left.name]


def test_a_store_of_nothing_but_leavings_is_one_and_a_mistake_is_none(tmp_path: Path) -> None:
    leave(tmp_path / "scores", age=90_000)
    assert len(swept(tmp_path / "scores")) == 1
    (tmp_path / "mine/data").mkdir(parents=True)
    (tmp_path / "mine/data/train.parquet").write_bytes(b"mine")
    for name in ("mine", "nothing", "scores"):
        with pytest.raises((NoSnapshotError, BucketError)):
            swept(tmp_path / name, "--grace", "0s")
    assert (tmp_path / "mine/data/train.parquet").exists()


def test_what_is_killed_between_its_two_deletes_can_be_swept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = Ledger(open_store(f"{home}/cur-shared"))
    delete = Store.delete

    def only_records(store: Store, key: str) -> None:
        if key.startswith("data/"):
            raise KeyboardInterrupt
        delete(store, key)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Store, "delete", only_records)
        score_store.take_out(scored, [], delete=True)
    assert len(swept(home / "cur-shared", "--grace", "0s")) == 2


def test_what_is_put_again_meanwhile_is_spared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker that does again what a killed one did puts the same object, and commits it."""
    root, shard, column = tmp_path / "scores", ShardRef("0.tar", 1, "e"), scores.Column("s", "f")
    ledger = Ledger(open_store(str(root)))
    left = leave(root, age=90_000)
    listing = Store.list

    def list_and_put(store: Store, prefix: str = "", **options: bool) -> list[object]:
        found = list(listing(store, prefix, **options))
        if prefix == "data":
            item = ledger.put_data(unit_id(shard, column.fingerprint), b"table", "parquet")
            ledger.commit(unit_id(shard, column.fingerprint), score_record(data=item.to_json()), ScoreRecord)
        return found

    monkeypatch.setattr(Store, "list", list_and_put)
    assert garbage.sweep(ledger, older_than=3600, delete=True) == [] and left.exists()


def test_a_record_that_goes_while_it_is_read_names_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    get = Store.get

    def gone(store: Store, key: str) -> bytes:
        if key.startswith("units/"):
            raise NotFoundError(key)
        return get(store, key)

    monkeypatch.setattr(Store, "get", gone)
    assert len(garbage.sweep(Ledger(open_store(f"{home}/cur-shared")), older_than=0, delete=False)) > 1
