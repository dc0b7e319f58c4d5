"""The ledger: names are functions of content, the first record wins, counts have to add up, plans come in pages."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import score_record, snapshot_document
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.core.digest import canonical, digest
from curation.core.errors import ConservationError, LedgerError, LostSnapshotError, NoSnapshotError
from curation.core.types import ShardRef, uid
from curation.ledger import ledger as module
from curation.ledger.documents import ScoreRecord, WriteRecord
from curation.ledger.ledger import Ledger, unit_id
from curation.ledger.plans import PAGE_SCHEMA, Plan, rows_sha256
from curation.storage.parquet import from_parquet, to_parquet
from curation.storage.store import open_store


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(open_store(str(tmp_path / "out")))


def batches(n: int, size: int) -> Iterator[pa.RecordBatch]:
    for start in range(0, n, size):
        rows = range(start, min(n, start + size))
        yield pa.record_batch(
            {
                "key": [f"{i:07d}.tar" for i in rows],
                "size": pa.array(list(rows), pa.int64()),
                "etag": ["e"] * len(rows),
            }
        )


def context(root: str) -> dict[str, object]:
    return {"corpus": {"root": root, "patterns": [""], "snapshot": None}, "fingerprints": {"index": "f"}}


def test_unit_id_is_the_content() -> None:
    base = unit_id(ShardRef("a.tar", 10, "e"), "f")
    assert base == unit_id(ShardRef("a.tar", 10, "e"), "f")
    others = [ShardRef("b.tar", 10, "e"), ShardRef("a.tar", 11, "e"), ShardRef("a.tar", 10, "x")]
    assert len({base, unit_id(ShardRef("a.tar", 10, "e"), "g"), *(unit_id(o, "f") for o in others)}) == 5
    assert unit_id(ShardRef("a.tar", 10, "e"), "f", start=0, stop=5) != base


@given(st.text(), st.text(), st.integers(0, 2**50))
def test_uid_is_32_hex_characters_and_depends_on_all_parts(key: str, etag: str, offset: int) -> None:
    name = uid(key, etag, offset)
    assert len(name) == 32 and int(name, 16) >= 0
    assert name not in {uid(key + "x", etag, offset), uid(key, etag + "x", offset), uid(key, etag, offset + 512)}


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_digest_ignores_the_order_of_keys(value: dict[str, object]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


def test_plans_are_paged_and_repeatable(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_UNITS", 100)
    plan = ledger.plan(batches(1042, 37), context("c"))
    assert [page.units for page in plan.pages] == [100] * 10 + [42]
    assert (plan.units, plan.bytes) == (1042, sum(range(1042)))
    assert [shard.key for shard in plan.shards()] == [f"{i:07d}.tar" for i in range(1042)]
    again = ledger.plan(batches(1042, 500), context("c"))
    assert again.id == plan.id
    assert ledger.open_plan(plan.id).document == plan.document
    assert ledger.plan(batches(1041, 37), context("c")).id != plan.id
    assert ledger.plan(batches(1042, 37), context("d")).id != plan.id


def test_a_plan_is_the_same_under_another_version_of_arrow(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ids are hashes of rows: Parquet names the version of Arrow, and may pack pages otherwise."""
    monkeypatch.setattr(module, "PAGE_UNITS", 100)
    plan = ledger.plan(batches(250, 37), context("c"))
    other = Ledger(open_store(ledger.store.url + "-other"))

    def packed(table: pa.Table) -> bytes:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, version="1.0", compression="none", use_dictionary=False, row_group_size=7)
        return bytes(sink.getvalue())

    monkeypatch.setattr(module, "to_parquet", packed)
    again = other.plan(batches(250, 100), context("c"))
    assert again.id == plan.id and again.document == plan.document
    assert other.store.get(again.pages[0].key) != ledger.store.get(plan.pages[0].key)
    for page in plan.pages:  # a ledger in which both versions have planned
        ledger.store.put(page.key, other.store.get(page.key))
    assert list(ledger.open_plan(plan.id).shards()) == list(other.open_plan(plan.id).shards()) == list(again.shards())


def as_before(ledger: Ledger, plan: Plan) -> Plan:
    """The same plan as an earlier version wrote it: pages and id by Parquet bytes."""
    pages = []
    for page in plan.pages:
        data = ledger.store.get(page.key)
        sha = sha256(data).hexdigest()
        ledger.store.put(f"plans/pages/{sha}.parquet", data)
        pages.append({"key": f"plans/pages/{sha}.parquet", "sha256": sha, "units": page.units})
    document = {**plan.document.to_json(), "pages": pages}
    ledger.store.put(f"plans/{digest(document)}.json", canonical(document))
    return ledger.open_plan(digest(document))


def test_plans_of_earlier_versions_are_read_and_compared(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_UNITS", 100)
    plan = ledger.plan(batches(250, 37), context("c"))
    old = as_before(ledger, plan)
    assert old.id != plan.id and list(old.shards()) == list(plan.shards())
    assert plan.same_as(old) and old.same_as(plan) and old.same_as(old)
    rows = pa.Table.from_batches(batches(250, 250))
    changed = rows.set_column(2, "etag", pa.array(["e"] * 249 + ["x"])).to_batches()
    for other in (ledger.plan(changed, context("c")), ledger.plan(batches(250, 37), context("d"))):
        assert not old.same_as(other) and not other.same_as(old) and not plan.same_as(other)
    ledger.store.put(old.pages[0].key, b"damaged")
    with pytest.raises(LedgerError, match=f"{old.pages[0].key} is damaged"):
        old.page(0)


@pytest.mark.parametrize("how", ["gone", "cut", "empty", "other rows", "other columns", "of another page"])
def test_a_damaged_page_is_one_line_with_the_fix(ledger: Ledger, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_UNITS", 100)
    plan = ledger.plan(batches(150, 37), context("c"))
    key, data = plan.pages[0].key, ledger.store.get(plan.pages[0].key)
    table = from_parquet(data)
    match how:
        case "gone":
            ledger.store.delete(key)
        case "cut":
            ledger.store.put(key, data[:-9])
        case "empty":
            ledger.store.put(key, b"")
        case "other rows":
            ledger.store.put(key, to_parquet(table.slice(1)))
        case "other columns":
            ledger.store.put(key, to_parquet(table.rename_columns(["k", "size", "etag"])))
        case "of another page":
            ledger.store.put(key, ledger.store.get(plan.pages[1].key))
    with pytest.raises(LedgerError, match=key) as raised:
        list(ledger.open_plan(plan.id).shards())
    assert "curate repair" in raised.value.fix and "\n" not in str(raised.value)


KEYS = st.lists(st.tuples(st.text(), st.integers(0, 2**62), st.text()), min_size=1, max_size=9)


@given(KEYS, KEYS, st.integers(0, 8))
def test_the_hash_of_rows_tells_rows_apart_and_nothing_else(left: list, right: list, cut: int) -> None:
    def table(rows: list) -> pa.Table:
        columns = zip(*rows, strict=True)
        return pa.table([pa.array(c, k) for c, k in zip(columns, PAGE_SCHEMA.types, strict=True)], schema=PAGE_SCHEMA)

    one, other = table(left), table(right)
    assert (rows_sha256(one) == rows_sha256(other)) == (left == right)
    both = pa.concat_tables([one, other])
    assert rows_sha256(both.slice(len(left))) == rows_sha256(other)  # whatever stands before them in memory
    pieces = pa.concat_tables([both.slice(0, cut), both.slice(cut)])
    assert rows_sha256(pieces) == rows_sha256(both.combine_chunks())


def test_an_unknown_plan(ledger: Ledger) -> None:
    with pytest.raises(LedgerError):
        ledger.open_plan("0" * 64)


def test_the_first_record_wins(ledger: Ledger) -> None:
    first, second = score_record(etag="1"), score_record(etag="2")
    assert ledger.find("u", ScoreRecord) is None
    assert ledger.commit("u", first, ScoreRecord).to_json() == first
    assert ledger.commit("u", second, ScoreRecord).to_json() == first
    assert ledger.commit("u", first, ScoreRecord).to_json() == first
    found = ledger.find("u", ScoreRecord)
    assert found is not None and found.to_json() == first


def test_racing_workers_agree(ledger: Ledger) -> None:
    results: list[str] = []
    barrier = threading.Barrier(16)

    def work(n: int) -> None:
        barrier.wait()
        results.append(ledger.commit("u", score_record(etag=str(n)), ScoreRecord).etag)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 16 and len(set(results)) == 1


def test_counts_that_do_not_add_up_are_refused(ledger: Ledger) -> None:
    bad = {"seen": 4, "kept": 1, "filtered": {"caption": 1}, "quarantined": {"bad_json": 1}}
    with pytest.raises(ConservationError, match="seen 4"):
        ledger.commit("u", {"kind": "write", **bad}, WriteRecord)
    with pytest.raises(ConservationError):
        ledger.create_snapshot(snapshot_document(samples=bad))
    assert ledger.find("u", WriteRecord) is None and ledger.latest() == 0


def test_snapshots_are_dense_and_have_parents(ledger: Ledger) -> None:
    with pytest.raises(NoSnapshotError):
        ledger.snapshot()
    made = [ledger.create_snapshot(snapshot_document(decision_id=str(i))) for i in range(3)]
    assert [(m["snapshot"], m["parent"]) for m in made] == [(1, None), (2, 1), (3, 2)]
    assert ledger.snapshot()["decision_id"] == "2"
    assert ledger.snapshot(1)["decision_id"] == "0"
    with pytest.raises(NoSnapshotError, match="@9"):
        ledger.snapshot(9)


def test_two_drivers_with_the_same_result_make_one_snapshot(ledger: Ledger) -> None:
    assert ledger.create_snapshot(snapshot_document()).snapshot == 1
    again = snapshot_document()  # of a driver with another Arrow, and with other names for what it put
    again["shards"] = {"key": "data/shards-1-1.parquet", "sha256": "1" * 64, "bytes": 4}
    assert ledger.create_snapshot(again).to_json() == ledger.snapshot(1).to_json()
    assert ledger.latest() == 1


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(hint=st.binary(max_size=12) | st.integers(0, 20).map(lambda n: str(n).encode()), n=st.integers(0, 5))
def test_latest_is_a_hint_only(tmp_path_factory: pytest.TempPathFactory, hint: bytes, n: int) -> None:
    """A hint that is behind, damaged or gone costs reads. One that names what is not there is an error."""
    ledger = Ledger(open_store(str(tmp_path_factory.mktemp("out"))))
    for i in range(n):
        ledger.create_snapshot(snapshot_document(decision_id=str(i)))
    ledger.store.put("LATEST", hint)
    if hint.isdigit() and len(hint) < 10 and int(hint) > n:
        with pytest.raises(LostSnapshotError, match=f"{int(hint):06d}.json .* gone, though LATEST names @{int(hint)}"):
            ledger.latest()
    else:
        assert ledger.latest() == n
    ledger.store.delete("LATEST")
    assert ledger.latest() == n


def test_a_lost_snapshot_is_not_replaced(ledger: Ledger) -> None:
    """Neither is the one before it opened in its place, nor does another get its number, without a word."""
    for i in range(3):
        ledger.create_snapshot(snapshot_document(decision_id=str(i)))
    ledger.store.delete("snapshots/000003.json")
    for call in (ledger.latest, ledger.snapshot, lambda: ledger.create_snapshot(snapshot_document(decision_id="3"))):
        with pytest.raises(
            LostSnapshotError, match=r"000003\.json .* is gone, .* the newest snapshot that exists is @2"
        ) as error:
            call()
    assert f"open {ledger.store.url.removeprefix('file://')}@2" in error.value.fix
    assert ledger.snapshot(2).snapshot == 2


def test_without_a_hint_the_newest_is_found_behind_a_hole(ledger: Ledger) -> None:
    for i in range(4):
        ledger.create_snapshot(snapshot_document(decision_id=str(i)))
    ledger.store.delete("snapshots/000002.json")
    ledger.store.delete("LATEST")
    assert ledger.latest() == 4


def test_no_two_puts_have_one_name(ledger: Ledger, tmp_path: Path) -> None:
    """So that gc never races a put: what it deletes is never put again."""
    path = tmp_path / "spool"
    path.write_bytes(b"abc")
    found = [ledger.put_data("u", b"abc", "bin"), ledger.put_data("u", b"abc", "bin")]
    found.append(ledger.put_data_file("u", path, "bin"))
    assert len({item.key for item in found}) == 3 and len({(item.sha256, item.bytes) for item in found}) == 1
    assert all(ledger.store.get(item.key) == b"abc" for item in found)
    assert all(re.fullmatch(r"data/u-ba7816bf8f01cfea-[0-9a-f]{8}\.bin", item.key) for item in found)


@pytest.mark.parametrize("damaged", [b"", b'{"kind": "sc', b"[]", b"\xff\xfe"])
def test_damage_is_one_line_that_names_the_record(ledger: Ledger, damaged: bytes) -> None:
    for key, ask in (
        ("units/a.json", lambda: ledger.find("a", ScoreRecord)),
        ("plans/b.json", lambda: ledger.open_plan("b")),
        ("snapshots/000007.json", lambda: ledger.snapshot(7)),
    ):
        ledger.store.put(key, damaged)
        with pytest.raises(LedgerError, match=f"{key} is damaged"):
            ask()
