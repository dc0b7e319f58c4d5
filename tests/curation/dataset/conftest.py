"""A dataset of two snapshots, made once: the second keeps longer captions and reads one shard more."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import PLAIN, write_corpus, write_recipe, write_shard
from running import curate

from curation.dataset.snapshot import Snapshot, open_snapshot


@pytest.fixture(scope="session")
def two_snapshots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Snapshot, Snapshot]:
    """Three shards of 30 samples and two that are broken; then one whole shard more."""
    root: Path = tmp_path_factory.mktemp("two")
    write_corpus(root / "corpus", 3, 30)
    recipe = write_recipe(root / "r.yaml", f"{root}/corpus", f"{root}/out", "", "", **PLAIN)
    curate(recipe)
    write_shard(root / "corpus" / "00003.tar", 3, 20, flaws=False)
    curate(recipe, "filters.caption.min_chars=32")  # the first ten captions of each shard are shorter
    return open_snapshot(f"{root}/out", 1), open_snapshot(f"{root}/out", 2)
