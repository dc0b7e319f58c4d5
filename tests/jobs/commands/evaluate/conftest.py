"""A dataset with two snapshots of one corpus, before and after its first evaluation."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import PLAIN, write_corpus, write_recipe
from evaluating import invoke
from running import curate


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evaluate")
    write_corpus(root / "corpus", 2, 30)
    write_corpus(root / "other", 5, 24, flaws=False)
    (root / "test").mkdir()
    for shard in (3, 4):
        shutil.copy(root / "other" / f"{shard:05d}.tar", root / "test")
    recipe = write_recipe(root / "r.yaml", f"{root}/corpus", f"{root}/out", "", "", **PLAIN)
    curate(recipe)
    curate(recipe, "filters.caption.min_words=1")
    return root


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """Two snapshots, @1 and the larger @2, of one corpus, and held-out shards; no evaluation yet."""
    return Path(shutil.copytree(made, tmp_path / "home"))


@pytest.fixture(scope="module")
def first(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A home whose @1 is evaluated, and the answer. Read-only; `evaluated` is a copy to change."""
    home = Path(shutil.copytree(made, tmp_path_factory.mktemp("first") / "home"))
    yield home, invoke(home, f"{home}/out@1")
    shutil.rmtree(home)  # 80 MB of trained models


@pytest.fixture
def evaluated(first: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(first[0], tmp_path / "evaluated"))
