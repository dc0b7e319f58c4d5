"""Files of failures: their parts, near-duplicates, and what is no such file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.core.errors import UserError
from curation.diagnosis.failures import SCHEMA, Failures, read_failures, split

UIDS = [f"{number:04}" for number in range(4000)]
FAR = [(-(1 << 63)) | int.from_bytes(uid.encode().ljust(7, b"x"), "big") * 2654435761 % (1 << 62) for uid in UIDS]


def test_parts_have_their_shares_and_follow_from_the_uid() -> None:
    parts = split(UIDS, [None] * len(UIDS))
    shares = {part: parts.count(part) / len(parts) for part in set(parts)}
    assert shares == pytest.approx({"query": 0.5, "validation": 0.25, "held_out": 0.25}, abs=0.03)
    assert split(UIDS[::-1], [None] * len(UIDS)) == parts[::-1]
    assert split(UIDS[:50], [None] * 50) == parts[:50], "other failures move none"
    assert split(UIDS, [None] * len(UIDS), seed=1) != parts


@pytest.mark.slow
def test_near_duplicates_are_in_one_part_and_blank_pictures_are_not_near() -> None:
    hashes: list[int | None] = [-6148914691236517206, -6148914691236517206 ^ 3, -6148914691236517206, 0, 0, None]
    for start in range(20):
        uids = [f"{start} {number}" for number in range(6)]
        parts = split(uids, hashes)
        assert len(set(parts[:3])) == 1
    blank = {tuple(split([f"{start} {number}" for number in range(6)], hashes)[3:5]) for start in range(20)}
    assert any(one != other for one, other in blank)


def test_a_file_is_read_as_it_was_written_and_nothing_else_is(tmp_path: Path) -> None:
    row = {"uid": "a", "expected": "cat", "guess": "dog", "part": "query", "content_hash": "c", "source_key": "0.tar",
           "source_etag": "e", "source_offset": 0, "source_length": 512}  # fmt: skip
    failures = Failures(pa.Table.from_pylist([row], schema=SCHEMA), {"sha256": "ab", "label": "name"})
    path = tmp_path / "f.parquet"
    path.write_bytes(failures.to_bytes())
    found = read_failures(str(path))
    assert found.table.equals(failures.table) and found.about == {"version": 1, "sha256": "ab", "label": "name"}
    assert found.part("query").num_rows == 1 and not found.part("held_out").num_rows
    assert failures.to_bytes() == found.to_bytes()
    pq.write_table(pa.table({"uid": ["a"]}), path)
    with pytest.raises(UserError, match="is no file of failures"):
        read_failures(str(path))
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="is no file of failures"):
        read_failures(str(path))
