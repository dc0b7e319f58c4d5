"""Which failures of a store are about one shard for good, and the list of such shards."""

from __future__ import annotations

from pathlib import Path

import pytest
from broken_s3 import BrokenS3
from services import environment

from curation.core.errors import ChangedError, LedgerError, UnavailableError
from curation.core.types import ShardRef
from curation.curating.scoring.batches import decode_here
from curation.ledger import unreadable
from curation.ledger.documents import DataObject
from curation.shards.unit_reader import UnitReader
from curation.storage.store import StoreOptions, open_store

KEYS = {"aws_access_key_id": "k", "aws_secret_access_key": "s"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "reason"),
    [("denied.tar", "store_access_denied"), ("archived.tar", "store_archived"), ("gone.tar", "store_not_found")],
)
def test_a_shard_that_the_store_refuses_has_a_reason(key: str, reason: str) -> None:
    with BrokenS3("denies") as broken, environment({name.upper(): value for name, value in KEYS.items()}):
        store = open_store("s3://bucket/pool", StoreOptions(endpoint=broken.endpoint, region="x"))
        store.put(key if key != "gone.tar" else "other.tar", b"data")
        (table,) = decode_here(UnitReader(store), [ShardRef(key, 4, "")])
    (failure,) = table.column("reason").to_pylist()
    assert table.column("row").to_pylist() == [-1]
    assert unreadable.reason_of(failure) == reason and key in failure


def test_what_may_pass_and_what_was_overwritten_is_never_set_aside() -> None:
    for error in (UnavailableError("later"), ChangedError("other"), LedgerError("not_found: x")):
        assert unreadable.reason_of(f"{error.code}: {error}") is None
    assert unreadable.reason_of("access_denied: no") == "store_access_denied"


def test_the_list_of_a_snapshot(tmp_path: Path) -> None:
    shards = {ShardRef("b.tar", 2, "e"): "store_archived", ShardRef("a.tar", 1, ""): "store_not_found"}
    data = unreadable.listed(shards)
    assert data == unreadable.listed(dict(reversed(shards.items())))
    store = open_store(str(tmp_path))
    from hashlib import sha256

    for text, good in ((data, True), (b"{}", True), (b"[1]", False), (b"nothing", False)):
        store.put("data/list.json", text)
        item = DataObject(key="data/list.json", sha256=sha256(text).hexdigest(), bytes=len(text))
        if good:
            assert unreadable.read_list(store, item) == (shards if text == data else {})
        else:
            with pytest.raises(LedgerError, match="it is not a list of shards"):
                unreadable.read_list(store, item)
    assert unreadable.read_list(store, None) == {}
