"""Marked shards: pinned once, and known by every key that a corpus gives them."""

from __future__ import annotations

from pathlib import Path

from edits_given import edits
from labelled import write_labelled

from curation.curating.added_samples import _keys, pin_shards


def test_a_shard_is_pinned_once_and_known_by_every_key(tmp_path: Path) -> None:
    assert _keys("s3://bucket/a/b/0.tar") == ["0.tar", "b/0.tar", "a/b/0.tar"]
    assert _keys("/a/0.tar") == ["0.tar", "a/0.tar"]
    write_labelled(tmp_path / "m", ["cat"])
    name = f"{tmp_path}/m/0.tar"
    (pin,) = pin_shards(edits(("a" * 32, "add", None, name), ("b" * 32, "add", None, name)), None)
    assert pin.url == name and pin.reason is None and pin.size == Path(name).stat().st_size
