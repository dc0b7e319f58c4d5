"""A small build of the corpus from the real packages: reproducible, readable, and truly described."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from openmoji_build import LIMIT, PER_SHARD, contents, image, small
from PIL import Image

from curation.core.errors import UserError
from curation.corpora import CORPORA, BuildResult, builder, openmoji_icons
from curation.corpora.captions import EMOJI
from curation.corpora.drawing import Drawing
from curation.corpora.openmoji_icons import build


@pytest.mark.slow
def test_smaller_limit_is_a_prefix_and_another_seed_is_not(corpus: tuple[Path, BuildResult], tmp_path: Path) -> None:
    first = corpus[1].shards[0]
    assert small(tmp_path / "prefix", limit=PER_SHARD).shards == [first]
    assert small(tmp_path / "seed", limit=PER_SHARD, seed=1).shards[0]["sha256"] != first["sha256"]


@pytest.mark.slow
def test_webdataset_reads_every_sample(corpus: tuple[Path, BuildResult], samples: list[dict[str, Any]]) -> None:
    assert [shard["samples"] for shard in corpus[1].shards] == [150, 150, 100]
    assert len({sample["__key__"] for sample in samples}) == corpus[1].samples == LIMIT
    for sample in samples:
        about, text = json.loads(sample["json"]), sample["txt"].decode()
        assert text.strip() == text
        assert text
        assert "\n" not in text
        assert "{" not in text
        assert about["licence"]
        assert about["name"]
        assert about["origin"]
        with Image.open(io.BytesIO(image(sample))) as picture:
            picture.load()
            assert picture.format == ("JPEG" if "jpg" in sample else "PNG")
            assert picture.size == (about["width"], about["height"])
            assert min(picture.size) >= 64


def test_the_mix(samples: list[dict[str, Any]]) -> None:
    about = [json.loads(sample["json"]) for sample in samples]
    assert 0.3 < sum("jpg" in sample for sample in samples) / LIMIT < 0.5
    assert {row["pack"] for row in about} == {"openmoji", "phosphor", "tabler", "simple-icons", "octicons"}
    assert len({row["language"] for row in about}) >= 8
    assert len({row["width"] for row in about}) >= 5
    assert {row["licence"] for row in about} >= {"CC-BY-SA-4.0", "MIT", "CC0-1.0"}


def test_second_run_finds_the_first(corpus: tuple[Path, BuildResult], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, built = corpus
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr(openmoji_icons, "catalogue", None)  # would fail if it were asked
    found = small(folder)
    assert (found.fresh, found.shards, found.counts) == (False, built.shards, built.counts)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "lost", [("corpus.json",), ("corpus.json", "CARD.md", "00001.tar", "00002.tar"), ("00001.tar",)]
)
def test_killed_or_damaged_build_is_repeated(
    corpus: tuple[Path, BuildResult], tmp_path: Path, lost: tuple[str, ...]
) -> None:
    for name, data in contents(corpus[0]).items():
        if name not in lost:
            (tmp_path / name).write_bytes(data)
    assert small(tmp_path).fresh
    assert contents(tmp_path) == contents(corpus[0])


@pytest.mark.parametrize("argument", [{"seed": 5}, {"limit": 7}, {"samples_per_shard": 10}])
def test_other_arguments_need_another_place(corpus: tuple[Path, BuildResult], argument: dict[str, int]) -> None:
    with pytest.raises(UserError, match=next(iter(argument))) as caught:
        small(corpus[0], **argument)
    assert "--out" in caught.value.fix


def test_somebody_elses_shards_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "theirs.tar").write_bytes(b"x")
    with pytest.raises(UserError, match=r"theirs\.tar"):
        small(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "theirs.tar"]


def test_missing_package_is_one_line_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(openmoji_icons, "version", version)
    with pytest.raises(UserError, match="emoji is not installed") as caught:
        small(tmp_path)
    assert caught.value.fix == "pip install 'tutelage[demo]'"


def test_progress_is_told_of_every_sample(tmp_path: Path) -> None:
    told: list[int] = []

    @contextmanager
    def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
        assert (label, total) == ("Rendering", 20)
        yield told.append

    small(tmp_path, limit=20, samples_per_shard=8, progress=progress)
    assert told == [8, 8, 4]


def test_the_whole_catalogue(drawings: list[Drawing]) -> None:
    assert 24_000 <= len(drawings) <= 32_000
    keys = [drawing.key for drawing in drawings]
    assert len(set(keys)) == len(keys)
    assert all(key.isascii() and "." not in key and "/" not in key and len(key) <= 90 for key in keys)
    assert all(drawing.name.strip() and drawing.licence for drawing in drawings)
    assert {drawing.language for drawing in drawings} == set(EMOJI)


@pytest.mark.parametrize("name", CORPORA)
def test_table(name: str) -> None:
    assert callable(builder(name))
    assert builder("openmoji-icons") is build
