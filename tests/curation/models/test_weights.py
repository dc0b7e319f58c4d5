"""Weights: verified before they are parsed, fetched once, never unpickled."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from curation.core.digest import sha256_of
from curation.core.errors import UserError, WeightsError
from curation.models.weights import (
    Weights,
    convert,
    read_metadata,
    read_tensors,
    tensors_to_bytes,
)

TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(3, dtype=torch.bfloat16)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tutelage" / "weights"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(tensors_to_bytes(TENSORS, {"model": "proxy-mu"}))
    return path


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_a_file_is_fetched_once_and_kept_by_its_sha256(file: Path, cache: Path) -> None:
    weights = Weights(str(file), sha256_of(file))
    fetched = weights.fetch()
    assert fetched == cache / f"{weights.sha256}.safetensors"
    file.unlink()
    assert weights.fetch() == fetched
    assert torch.equal(read_tensors(fetched)["b"], TENSORS["b"])
    assert read_metadata(fetched) == {"model": "proxy-mu"}


def test_a_damaged_cache_is_fetched_again(file: Path, cache: Path) -> None:
    weights = Weights(file.as_uri(), sha256_of(file))
    weights.fetch().write_bytes(b"damage")
    assert weights.fetch().read_bytes() == file.read_bytes()
    assert [path.suffix for path in cache.iterdir()] == [".safetensors"]


def test_another_sha256_is_refused_before_parsing_and_not_kept(file: Path, cache: Path) -> None:
    wanted = "0" * 64
    with pytest.raises(WeightsError, match=f"{sha256_of(file)}.*{wanted}") as caught:
        Weights(str(file), wanted).fetch()
    assert caught.value.fix
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("sha256", ["", "abc", "A" * 64, "sha256:" + "a" * 64])
def test_a_sha256_must_be_one(sha256: str) -> None:
    with pytest.raises(WeightsError, match="64 lower-case"):
        Weights("x.safetensors", sha256)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="nowhere") as caught:
        Weights(str(tmp_path / "nowhere.safetensors"), "0" * 64).fetch()
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written_is_one_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    with pytest.raises(UserError, match=r"the cache folder /proc/nowhere\S+ can't be written") as caught:
        Weights(str(file), sha256_of(file)).fetch()
    assert "XDG_CACHE_HOME" in caught.value.fix


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".pkl", ".ckpt", ".PT"])
def test_pickles_are_refused_by_name_with_the_way_to_convert(suffix: str) -> None:
    with pytest.raises(WeightsError) as caught:
        Weights(f"s3://models/epoch{suffix}", "0" * 64).fetch()
    assert caught.value.fix.startswith(f"curate proxy convert epoch{suffix} epoch.safetensors")


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_pickles_are_refused_by_their_bytes_and_never_run(write: object, tmp_path: Path) -> None:
    assert callable(write)
    path, trap = tmp_path / "innocent.safetensors", tmp_path / "trap"
    write(Bomb(trap), path)
    with pytest.raises(WeightsError, match="pickle"):
        Weights(str(path), sha256_of(path)).fetch()
    with pytest.raises(WeightsError, match="pickle"):
        read_tensors(path)
    assert not trap.exists()


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:7], lambda data: b"<html>" + data])
def test_what_is_no_safetensors_file_is_one_line(damage: object, file: Path) -> None:
    assert callable(damage)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(WeightsError, match=r"model\.safetensors is not a safetensors file") as caught:
        read_tensors(file)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_bytes_are_a_function_of_the_content() -> None:
    program = (
        "import torch, hashlib; from curation.models.weights import tensors_to_bytes\n"
        "data = tensors_to_bytes({'b': torch.ones(2), 'a': torch.zeros(3)}, {k: k for k in 'qwertyuiop'})\n"
        "print(hashlib.sha256(data).hexdigest())"
    )
    prints = [
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    ]
    assert prints[0] == prints[1]


def test_our_files_are_plain_safetensors(file: Path, tmp_path: Path) -> None:
    loaded = load_file(file)
    assert loaded.keys() == TENSORS.keys() and all(torch.equal(loaded[k], TENSORS[k]) for k in TENSORS)
    save_file(loaded, tmp_path / "again.safetensors")


@pytest.mark.parametrize(
    "wrap", [lambda t: t, lambda t: {"state_dict": {f"module.{k}": v for k, v in t.items()}, "epoch": 3}]
)
def test_convert(wrap: object, tmp_path: Path) -> None:
    assert callable(wrap)
    torch.save(wrap(TENSORS), tmp_path / "a.pt")
    sha256 = convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
    assert sha256 == hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()
    assert read_tensors(tmp_path / "a.safetensors").keys() == TENSORS.keys()


def test_convert_runs_nothing(tmp_path: Path) -> None:
    torch.save({"state_dict": Bomb(tmp_path / "trap")}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="without running code") as caught:
        convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "trap").exists() and not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 no"])
def test_convert_of_something_else_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)
