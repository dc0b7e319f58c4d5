"""Pinned files: any content, verified by sha256, cached under it with a suffix that names the content."""

from __future__ import annotations

import pickle
from hashlib import sha256
from pathlib import Path

import pytest

from curation.core.errors import PinnedFileError, UserError, WeightsError
from curation.filters.phrases import PhraseFile
from curation.models import Weights
from curation.storage.pinned_file import PinnedFile


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tutelage"


def pinned(path: Path, data: bytes, kind: type[PinnedFile] = PhraseFile) -> PinnedFile:
    path.write_bytes(data)
    return kind(str(path), sha256(data).hexdigest())


def test_a_cached_copy_is_named_after_its_content(tmp_path: Path, cache: Path) -> None:
    words = pinned(tmp_path / "words.csv", b"a dog\n")
    assert words.fetch() == words.cached == cache / "phrases" / f"{words.sha256}.txt"
    other = PinnedFile(words.url, words.sha256)
    assert other.fetch() == cache / "files" / words.sha256
    assert Weights(words.url, words.sha256).cached == cache / "weights" / f"{words.sha256}.safetensors"


@pytest.mark.parametrize("name", ["words.bin", "words.pkl", "words.pt"])
def test_a_list_of_words_may_have_the_suffix_of_a_pickle(name: str, tmp_path: Path) -> None:
    words = pinned(tmp_path / name, b"a dog\n")
    words.check()
    assert words.fetch().read_bytes() == b"a dog\n"
    with pytest.raises(WeightsError, match="pickle"):
        Weights(words.url, words.sha256).fetch()


def test_only_weights_are_refused_for_the_bytes_of_a_pickle(tmp_path: Path) -> None:
    data = pickle.dumps("a dog")
    assert pinned(tmp_path / "words.txt", data).fetch().read_bytes() == data
    with pytest.raises(WeightsError, match="pickle"):
        pinned(tmp_path / "weights.safetensors", data, Weights).fetch()


def test_a_url_is_checked_although_a_copy_is_cached(tmp_path: Path) -> None:
    words = pinned(tmp_path / "words.txt", b"a dog\n")
    words.check()
    (tmp_path / "words.txt").write_bytes(b"a cat\n")  # of the same size
    assert words.fetch().read_bytes() == b"a dog\n"
    with pytest.raises(PinnedFileError, match=r"words\.txt has another sha256 than"):
        words.check()
    (tmp_path / "words.txt").unlink()
    with pytest.raises(PinnedFileError, match=r"words\.txt does not exist"):
        words.check()


def test_errors_carry_the_code_of_the_content(tmp_path: Path) -> None:
    words = pinned(tmp_path / "words.txt", b"a dog\n")
    for kind, code in ((PhraseFile, "bad_file"), (Weights, "bad_weights")):
        with pytest.raises(UserError, match="has sha256") as caught:
            kind(words.url, "0" * 64).fetch()
        assert caught.value.code == code and caught.value.fix
        with pytest.raises(UserError, match="64 lower-case") as caught:
            kind(words.url, "abc")
        assert caught.value.code == code and words.url in caught.value.fix
