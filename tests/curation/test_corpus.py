"""Patterns: what they match, which root they share, and that listings come out sorted however they arrive."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from curation.corpus import Corpus, open_corpus
from curation.errors import EmptyCorpusError, RecipeError


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    root = tmp_path / "pool"
    for name in ("a/00000.tar", "a/00001.tar", "a/00010.tar", "b/00001.tar", "a/notes.txt", "a/deep/00001.tar"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def keys(corpus: Corpus, tmp: Path) -> list[str]:
    return pa.Table.from_batches(list(corpus.listing(tmp))).column("key").to_pylist()


@pytest.mark.parametrize(
    ("patterns", "root", "expected"),
    [
        (["a"], "a", ["00000.tar", "00001.tar", "00010.tar", "deep/00001.tar"]),
        (["a/*.tar"], "a", ["00000.tar", "00001.tar", "00010.tar"]),
        (["a/0000?.tar"], "a", ["00000.tar", "00001.tar"]),
        (["a/{00000..00009}.tar"], "a", ["00000.tar", "00001.tar"]),
        (["a/{00001..00010}.tar"], "a", ["00001.tar", "00010.tar"]),
        (["{a,b}/00001.tar"], "", ["a/00001.tar", "b/00001.tar"]),
        (["{a}/*1.tar"], "", ["a/00001.tar"]),  # as the README says of what is to grow
        (["b"], "b", ["00001.tar"]),
        (["a/00001.tar", "b"], "", ["a/00001.tar", "b/00001.tar"]),
        (["a/00000.tar"], "a", ["00000.tar"]),
        (["a/*.tar", "b"], "", ["a/00000.tar", "a/00001.tar", "a/00010.tar", "b/00001.tar"]),
        (["a/*.tar", "a/00000.tar"], "a", ["00000.tar", "00001.tar", "00010.tar"]),
    ],
)
def test_patterns(shards: Path, tmp_path: Path, patterns: list[str], root: str, expected: list[str]) -> None:
    corpus = open_corpus([str(shards / pattern) for pattern in patterns])
    assert corpus.root == f"file://{shards / root}".rstrip("/")
    assert keys(corpus, tmp_path) == expected


def test_nothing_matches(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(EmptyCorpusError) as caught:
        keys(open_corpus(str(shards / "c*.tar")), tmp_path)
    assert "c*.tar" in str(caught.value)


def test_different_stores_are_refused() -> None:
    with pytest.raises(RecipeError):
        open_corpus(["s3://one/a.tar", "s3://two/b.tar"])
    with pytest.raises(RecipeError):
        open_corpus([])


def test_a_corpus_that_moves_keeps_its_keys_and_etags(shards: Path, tmp_path: Path) -> None:
    import shutil

    before = pa.Table.from_batches(list(open_corpus(str(shards)).listing(tmp_path)))
    shutil.copytree(shards, tmp_path / "elsewhere")
    assert pa.Table.from_batches(list(open_corpus(str(tmp_path / "elsewhere")).listing(tmp_path))) == before
