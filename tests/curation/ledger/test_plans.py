"""Plans: paged, named by their rows, and the same under every version of Arrow."""

from __future__ import annotations

from hashlib import sha256

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_batches import batches, context

from curation.core.digest import canonical, digest
from curation.core.errors import LedgerError
from curation.ledger import ledger as module
from curation.ledger.ledger import Ledger
from curation.ledger.plans import PAGE_SCHEMA, Plan, rows_sha256
from curation.storage.parquet import from_parquet, to_parquet
from curation.storage.store import open_store


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
    assert rows_sha256(both.slice(len(left))) == rows_sha256(other)  # at any offset in memory
    pieces = pa.concat_tables([both.slice(0, cut), both.slice(cut)])
    assert rows_sha256(pieces) == rows_sha256(both.combine_chunks())


def test_an_unknown_plan(ledger: Ledger) -> None:
    with pytest.raises(LedgerError):
        ledger.open_plan("0" * 64)
