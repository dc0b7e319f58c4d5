"""Single samples by their place: one request each, and one copy of a shard whose samples overlap."""

from __future__ import annotations

from pathlib import Path

import pytest
from tar_archives import archive

from curation.core.errors import ChangedError, TarError
from curation.shards import sample_reader
from curation.shards.sample_reader import SampleReader
from curation.shards.tar_samples import read_samples
from curation.storage.store import Store, open_store

MEMBERS = [(f"s{n}.{ext}", f"{n} {ext}".encode()) for n in range(6) for ext in ("jpg", "txt")]


def stored(store: Store, name: str) -> tuple[str, list[tuple[int, int]]]:
    """The etag of a shard, and the place of each of its samples."""
    data = archive(MEMBERS)
    store.put(name, data)
    return store.head(name).etag, [(s.start, s.stop - s.start) for s in read_samples([data], len(data))]


def test_a_sample_comes_back(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    etag, places = stored(store, "0.tar")
    with SampleReader(store) as reader:
        for n, (offset, length) in enumerate(places):
            parts = {part.extension: part.data for part in reader.read("0.tar", etag, offset, length).parts}
            assert parts == {"jpg": f"{n} jpg".encode(), "txt": f"{n} txt".encode()}


def test_a_place_without_a_sample_and_a_shard_that_changed_are_refused(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    etag, [(offset, length), *_] = stored(store, "0.tar")
    with SampleReader(store) as reader:
        with pytest.raises(TarError):
            reader.read("0.tar", etag, offset + 512, length)
        store.put("0.tar", archive(MEMBERS[2:]))
        with pytest.raises(ChangedError):
            reader.read("0.tar", etag, offset, length)


def test_long_spans_are_read_from_a_copy_and_few_copies_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_reader, "DIRECT", 100)
    monkeypatch.setattr(sample_reader, "COPIES", 2)
    store = open_store(str(tmp_path))
    shards = {f"{n}.tar": stored(store, f"{n}.tar") for n in range(3)}
    with SampleReader(store) as reader:
        for name in ("0.tar", "1.tar", "0.tar", "2.tar"):
            etag, places = shards[name]
            for offset, length in places:
                assert reader.read(name, etag, offset, length).parts
        assert [name for name, _ in reader._copies] == ["0.tar", "2.tar"], "the one that was used last stays"
        kept = list(reader._copies.values())
    assert all(copy._file.closed for copy in kept) and not reader._copies
