"""Written samples: the bytes of `TarWriter` for any members, sizes, orders, batches and edits, and their places."""

from __future__ import annotations

import io
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tar_archives import archive

from curation.core.types import ShardRef, uid
from curation.curating import written_samples
from curation.curating.annotation import annotate
from curation.curating.edited_samples import FieldEdit, SampleEdits
from curation.curating.written_samples import WrittenSamples
from curation.shards import member_reader
from curation.shards.tar_samples import TarSample, read_samples
from curation.shards.tar_writer import TarWriter
from curation.shards.unit_reader import INDEX_SCHEMA
from curation.storage.store import open_store

SCHEMA = pa.schema([INDEX_SCHEMA.field(name) for name in ("uid", "offset", "length", "members")])
EDITS = SampleEdits((FieldEdit("caption", '"a cat"'), FieldEdit("label", "7")))
STALE = SampleEdits((FieldEdit("caption", '"a cat"', expected='"none such"'), FieldEdit("label", "7", expected="8")))
SIZES = st.sampled_from([0, 1, 511, 512, 513, 1500, 2048, 5000])
SAMPLES = st.lists(
    st.dictionaries(st.sampled_from(["txt", "json", "seg.png", "cls", "npy"]), SIZES, max_size=4),
    min_size=1,
    max_size=9,
)


def members_of(samples: list[dict[str, int]], *, scattered: bool) -> list[tuple[str, bytes]]:
    """The members of samples, each with a jpg; scattered: all first members before the second ones."""
    found = []
    for n, sizes in enumerate(samples):
        for place, (extension, size) in enumerate({"jpg": 700 * n, **sizes}.items()):
            data = json.dumps({"a": "x" * size, "n": n}).encode() if extension == "json" else bytes([n + 65]) * size
            found.append((place if scattered else 0, n, f"s{n:02d}.{extension}", data))
    return [(name, data) for *_, name, data in sorted(found, key=lambda item: item[:2])]


@pytest.mark.slow
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    samples=SAMPLES,
    kept=st.sets(st.integers(0, 8)),
    split=st.integers(0, 9),
    scattered=st.booleans(),
    read=st.sampled_from([1, 3000, 1 << 20]),
    long=st.sampled_from([0, 512, 1000, 1 << 20]),
    assembled=st.sampled_from([512, 4000, 1 << 20]),
    edited=st.sets(st.integers(0, 8)),
    stale=st.sets(st.integers(0, 8)),
)
def test_bytes_equal_the_writers(
    samples: list[dict[str, int]], kept: set[int], split: int, scattered: bool, read: int, long: int, assembled: int,
    edited: set[int], stale: set[int], tmp_path: Path,
) -> None:  # fmt: skip
    data = archive(members_of(samples, scattered=scattered))
    store = open_store(str(tmp_path))
    store.put("0.tar", data)
    shard = ShardRef("0.tar", len(data), store.head("0.tar").etag)
    found = list(read_samples([data], len(data), interleaved=scattered))
    rows = [row_of(sample, shard) for sample in found]
    chosen = sorted(row for row in kept if row < len(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(member_reader, "READ_BYTES", read)
        patch.setattr(written_samples, "LONG", long)
        patch.setattr(written_samples, "ASSEMBLED", assembled)
        changes = dict.fromkeys(edited, EDITS) | dict.fromkeys(stale, STALE)
        index = pa.Table.from_pylist(rows, SCHEMA)
        written = WrittenSamples(store, shard, index, np.array(chosen, np.int64), changes)
        halves = [(0, min(split, len(chosen))), (min(split, len(chosen)), len(chosen))]
        out, places = joined(written, [half for half in halves if half[0] < half[1]])
        written.close()
    some = {place for place, row in enumerate(chosen) if row in edited - stale}
    assert written.stale.keys() == stale & set(chosen) and all(len(both) == 2 for both in written.stale.values())
    assert all(not written.applied[row].edits for row in stale & set(chosen))
    assert (out, places) == expected([(rows[n], found[n]) for n in chosen], shard, some)


def test_a_dropped_sample_may_have_a_name_that_no_shard_can_hold(tmp_path: Path) -> None:
    long = "e" * 90
    data = archive([("a.jpg", b"1"), (f"b.{long}", b"2"), ("c.jpg", b"3")])
    store = open_store(str(tmp_path))
    store.put("0.tar", data)
    shard = ShardRef("0.tar", len(data), store.head("0.tar").etag)
    found = list(read_samples([data], len(data)))
    rows = [row_of(sample, shard) for sample in found]
    written = WrittenSamples(store, shard, pa.Table.from_pylist(rows, SCHEMA), np.array([0, 2]))
    out, places = joined(written, [(0, 2)])
    written.close()
    assert (out, places) == expected([(rows[n], found[n]) for n in (0, 2)], shard)


def row_of(sample: TarSample, shard: ShardRef) -> dict[str, Any]:
    """The columns of a sample's index row that writing reads."""
    return {
        "uid": uid(*shard[::2], sample.start),
        "offset": sample.start,
        "length": sample.stop - sample.start,
        "members": [{n: getattr(part, n) for n in ("extension", "offset", "length")} for part in sample.parts],
    }


def joined(written: WrittenSamples, halves: list[tuple[int, int]]) -> tuple[bytes, list[int]]:
    out, places = b"", list[int]()
    for start, stop in halves:
        for buffers, offsets in written.pieces(start, stop):
            places += (offsets[:-1] + len(out)).tolist()
            assert sum(map(len, buffers)) == offsets[-1]
            out += b"".join(buffers)
    return out, places


def expected(
    chosen: list[tuple[dict[str, Any], Any]], shard: ShardRef, edited: Collection[int] = ()
) -> tuple[bytes, list[int]]:
    """The bytes that `TarWriter` makes of each sample, without the end, and the offsets of their first headers.

    edited: places of the samples that `EDITS` changes.
    """
    file, places = io.BytesIO(), []
    writer = TarWriter(file)
    for place, (row, sample) in enumerate(chosen):
        places.append(file.tell())
        parts = {part.extension: part.data for part in sample.parts}
        parts["json"] = annotate(parts.get("json", b"{}"), row["uid"], shard, row["offset"], row["length"])
        if place in edited:
            parts["json"] = EDITS.apply(parts["json"], "", parts.get("txt"))
            parts |= {"txt": b"a cat"} if "txt" in parts else {}
        for extension in sorted(parts):
            writer.add(f"{row['uid']}.{extension}", parts[extension])
    return file.getvalue(), places


def test_odd_uids_are_refused(tmp_path: Path) -> None:
    index = pa.Table.from_pylist([{"uid": "../x", "offset": 0, "length": 0, "members": []}], SCHEMA)
    with pytest.raises(ValueError, match="uid"):
        WrittenSamples(open_store(str(tmp_path)), ShardRef("a", 1, "e"), index, np.array([0]))
