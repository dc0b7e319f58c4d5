"""The ledger: names are functions of content, the first record wins, damage is one line."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from builders import score_record
from hypothesis import given
from hypothesis import strategies as st

from curation.core.digest import digest
from curation.core.errors import LedgerError
from curation.core.types import ShardRef, uid
from curation.ledger.documents import ScoreRecord
from curation.ledger.ledger import Ledger, unit_id


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


def test_no_two_puts_have_one_name(ledger: Ledger, tmp_path: Path) -> None:
    """gc never races a put, because a deleted name is never put again."""
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
