"""The words of the system: references by content."""

from __future__ import annotations

import pytest

from curation.core.types import ShardRef

UNIT, SHA = "0123456789abcdef" * 4, "fedcba9876543210"


def test_shards_of_two_runs_have_one_reference_by_content() -> None:
    before = ShardRef(f"data/{UNIT}-{SHA}.tar", 10, "e")  # as an earlier version named them
    runs = [ShardRef(f"data/{UNIT}-{SHA}-{nonce}.tar", 10, "e") for nonce in ("0a1b2c3d", "ffffffff")]
    assert {shard.content for shard in runs} == {before.content} == {tuple(before)}
    below = ShardRef(f"out/data/{UNIT}-{SHA}-0a1b2c3d.tar", 10, "e")
    assert below.content[0] == f"out/data/{UNIT}-{SHA}.tar"


NAME = f"{UNIT}-{SHA}-0a1b2c3d.tar"


@pytest.mark.parametrize("key", ["00000.tar", "data/00000-11112222.tar", NAME, f"xdata/{NAME}"])
def test_names_of_others_stay_as_they_are(key: str) -> None:
    assert ShardRef(key, 1, "").content == (key, 1, "")
