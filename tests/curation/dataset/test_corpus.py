"""Patterns: what they match, which root they share, and that listings come out sorted however they arrive."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from curation.core.errors import EmptyCorpusError, RecipeError
from curation.dataset.corpus import Corpus, open_corpus
from curation.storage.store import open_store


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


UNIT, SHA = "0123456789abcdef" * 4, "fedcba9876543210"


def curated(root: Path) -> Path:
    """The output of a run of this version and of an earlier one, with a foreign tar beside it."""
    for name in (f"{UNIT}-{SHA}-0a1b2c3d.tar", f"{UNIT}-{SHA}.tar", "00000.tar"):
        (root / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "data" / name).write_bytes(name.encode())
    return root


INSIDE = [
    ("pool", "pool/curated"),
    ("pool", "pool"),
    ("pool/", "pool/curated/"),
    ("pool", "pool/a/deep"),
    ("pool/*/data/*.tar", "pool/curated"),
    ("pool/{a,curated}/data/*.tar", "pool/curated"),
    ("link", "pool/curated"),
    ("pool", "link/curated"),
    ("file://{}/pool", "pool/curated"),
]


@pytest.mark.parametrize("name", ["output", "scores"])
@pytest.mark.parametrize(("pattern", "place"), INSIDE)
def test_an_output_inside_the_corpus_is_refused(
    shards: Path, tmp_path: Path, pattern: str, place: str, name: str
) -> None:
    (tmp_path / "link").symlink_to(shards)
    url = pattern.format(tmp_path) if "://" in pattern else str(tmp_path / pattern) + "/" * pattern.endswith("/")
    for output in (f"{tmp_path}/{place}", f"file://{tmp_path}/{place}"):
        with pytest.raises(RecipeError, match=f"{name}: .* is inside the corpus") as caught:
            open_corpus(url).expect_outside({name: open_store(output)})
        assert "-curated" in caught.value.fix and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "place"),
    [
        ("pool", "curated"),
        ("pool", "pool-curated"),
        ("pool", "poo"),
        ("pool/a", "pool/curated"),
        ("pool/*.tar", "pool"),
        ("pool/*.tar", "pool/curated"),
        ("pool/{a,b}/*.tar", "pool/curated"),
        ("pool/{00000..00009}.tar", "pool/curated"),
    ],
)
def test_an_output_beside_what_the_patterns_match_is_none_of_them(
    shards: Path, tmp_path: Path, pattern: str, place: str
) -> None:
    open_corpus(f"{tmp_path}/{pattern}").expect_outside({"output": open_store(f"{tmp_path}/{place}")})


def test_the_data_folder_of_the_output_is_no_corpus_of_its_own(tmp_path: Path) -> None:
    for pattern in ("out/data", "out/data/*.tar", "out/data/0*/*.tar"):
        with pytest.raises(RecipeError, match="names the data folder") as caught:
            open_corpus(f"{tmp_path}/{pattern}").expect_outside({"output": open_store(f"{tmp_path}/out")})
        assert caught.value.fix.endswith("/out@latest")


def test_buckets_are_told_apart() -> None:
    corpus = open_corpus("s3://pool/laion")
    for url in ("s3://other/laion/curated", "gs://pool/laion/curated", "s3://pool/laion-curated"):
        corpus.expect_outside({"output": open_store(url)})
    with pytest.raises(RecipeError, match="is inside"):
        corpus.expect_outside({"output": open_store("s3a://pool/laion/curated/")})


def test_datasets_below_the_root_are_counted_and_left_out(shards: Path, tmp_path: Path) -> None:
    curated(shards / "mine"), curated(shards)
    left_out: list[tuple[int, str]] = []
    note = lambda *told: left_out.append(told)  # noqa: E731
    found = pa.Table.from_batches(list(open_corpus(str(shards)).listing(tmp_path, note)))
    ((count, example),) = left_out
    assert count == 4 and example.startswith(f"file://{shards}/") and UNIT in example
    names = found.column("key").to_pylist()
    assert "data/00000.tar" in names and "mine/data/00000.tar" in names and not any(UNIT in name for name in names)
    left_out.clear()
    list(open_corpus(f"{shards}/a").listing(tmp_path, note))
    assert left_out == []


@pytest.mark.parametrize("how", ["copied folder", "linked folder", "linked dataset", "linked file", "copied file"])
def test_outputs_are_known_in_other_folders_and_behind_links(shards: Path, tmp_path: Path, how: str) -> None:
    curated(tmp_path / "out")
    output, *_ = (path for path in (tmp_path / "out/data").iterdir() if UNIT in path.name)
    match how:
        case "copied folder":
            shutil.copytree(output.parent, shards / "cleaned")
        case "linked folder":
            (shards / "cleaned").symlink_to(output.parent)
        case "linked dataset":
            (shards / "cleaned").symlink_to(tmp_path / "out")
        case "linked file":
            (shards / "other.tar").symlink_to(output)
        case "copied file":
            shutil.copy(output, shards / f"{output.stem} (1).tar")
    left_out: list[tuple[int, str]] = []
    note = lambda *told: left_out.append(told)  # noqa: E731
    found = pa.Table.from_batches(list(open_corpus(str(shards)).listing(tmp_path, note)))
    outputs = sum(UNIT in path.name for path in output.parent.iterdir())
    assert [count for count, _ in left_out] == [1 if "file" in how else outputs]
    assert not any(UNIT in name or "other" in name for name in found.column("key").to_pylist())


def test_a_corpus_of_nothing_but_outputs_says_what_to_write(tmp_path: Path) -> None:
    curated(tmp_path / "out")
    for path in (tmp_path / "out/data").iterdir():
        if UNIT not in path.name:
            path.unlink()
    (tmp_path / "pool").symlink_to(tmp_path / "out/data")
    with pytest.raises(EmptyCorpusError, match="are output shards of curated datasets") as error:
        keys(open_corpus(f"{tmp_path}/pool"), tmp_path)
    assert f"name {tmp_path}/out@latest" in error.value.fix
    some = pa.Table.from_batches(list(open_corpus(f"{tmp_path}/pool").listing(tmp_path, copies=True)))
    assert some.num_rows, "a learner may read a copy"


def test_shards_of_a_dataset_below_are_left_out_of_training_with_a_word(
    shards: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from curation.dataset.open_shards import open_shards

    curated(shards / "mine")
    for _ in range(2):
        assert not any(UNIT in shard.ref.key for shard in open_shards(str(shards)))
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith(f"2 shards of curated datasets below file://{shards} are not read as input, such as ")


@pytest.mark.parametrize("pattern", ["mine/data/*.tar", "mine/data", "m*/data/*.tar", f"mine/data/{UNIT}-{SHA}.tar"])
def test_a_pattern_into_the_data_of_a_dataset_is_refused(shards: Path, tmp_path: Path, pattern: str) -> None:
    curated(shards / "mine")
    with pytest.raises(RecipeError, match="names the data folder of a curated dataset") as caught:
        keys(open_corpus(f"{shards}/{pattern}"), tmp_path)
    assert caught.value.fix.endswith(f"{shards}/mine@latest")
    fine = [f"{shards}/a", f"{shards}/mine"]  # beside another pattern, which means the dataset's folder as it is
    assert len(keys(open_corpus(fine), tmp_path)) == 5


def test_only_matching_files_are_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patterns of two folders share a root that may hold anything: a listing of it all would read the disk."""
    from curation.storage.local_store import LocalFiles

    for name in ("a/0.tar", "b/1.tar", "b/notes.txt", "c/2.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    hashed, head = [], LocalFiles.head
    monkeypatch.setattr(LocalFiles, "head", lambda files, key: hashed.append(key) or head(files, key))
    corpus = open_corpus([f"{tmp_path}/a", f"{tmp_path}/b"])
    (batch,) = corpus.listing(tmp_path)
    assert batch.column("key").to_pylist() == ["a/0.tar", "b/1.tar"] and all(batch.column("etag").to_pylist())
    assert sorted(hashed) == ["a/0.tar", "b/1.tar"]
