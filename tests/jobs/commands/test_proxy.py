"""`curate proxy`: train, convert, list."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from builders import write_corpus, write_shard, write_weights
from click.testing import CliRunner, Result

from curation.core.digest import sha256_of
from curation.core.errors import EmptyCorpusError, UnknownNameError, UserError, WeightsError
from curation.curating.vectors import pairs
from curation.dataset.loader import SampleStream
from curation.dataset.open_shards import open_shards
from curation.models import Weights
from curation.models.dual import load_dual_encoder
from curation.models.vectors import read_centres, read_vectors
from curation.models.weights import read_metadata
from jobs.commands.proxy import proxy

SMALL = ["--model", "proxy-mu", "--steps", "3", "--batch", "8", "--threads", "1", "--device", "cpu", "--holdout", "0.3"]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(proxy, arguments, catch_exceptions=False)


def train(data: Path, out: Path, *more: str) -> dict[str, Any]:
    result = invoke("train", "--data", str(data), "--out", str(out), *SMALL, *more, "--json")
    assert result.exit_code == 0, result.output
    card: dict[str, Any] = json.loads(result.stdout)
    return card


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), shards=2, n=30)


@pytest.mark.slow
def test_train_writes_weights_that_load_and_a_card(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    card = train(corpus, tmp_path / "a")
    weights = tmp_path / "a" / "proxy-mu.safetensors"
    assert sha256_of(weights) == card["sha256"]
    assert load_dual_encoder("proxy-mu", Weights(card["weights"], card["sha256"])).text(["a thing"]).shape == (1, 64)
    assert read_metadata(weights)["model"] == "proxy-mu"
    assert card["samples"]["train"] > 20 and card["samples"]["held_out"] > 3
    assert card["skipped"]["tar_truncated"] == 1  # once, though two parts of the corpus are read
    assert card["evaluation"]["retrieval"]["i2t_recall@1"]["total"] > 1
    readme = (tmp_path / "a" / "README.md").read_text()
    assert card["sha256"] in readme and "clip_score" in readme
    metrics = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert metrics[0]["step"] == 1 and "evaluation" in metrics[-1]
    assert {p.name for p in (tmp_path / "a").iterdir()} >= {"card.json", "proxy-mu.json"}


@pytest.mark.slow
def test_the_same_run_gives_the_same_sha256_and_is_not_repeated(corpus: Path, tmp_path: Path) -> None:
    first = train(corpus, tmp_path / "a")
    assert train(corpus, tmp_path / "b")["sha256"] == first["sha256"]
    again = train(corpus, tmp_path / "a")
    assert again["reused"] and not first["reused"] and again["sha256"] == first["sha256"]
    assert not train(corpus, tmp_path / "a", "--force")["reused"]
    assert train(corpus, tmp_path / "a", "--seed", "1")["sha256"] != first["sha256"]


@pytest.mark.slow
def test_the_recipe_lines_are_printed(corpus: Path, tmp_path: Path) -> None:
    result = invoke("train", "--data", str(corpus), "--out", str(tmp_path), *SMALL)
    sha256 = sha256_of(tmp_path / "proxy-mu.safetensors")
    assert f"sha256: {sha256}}}" in result.stdout and "i2t_recall@1" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["--model", "proxy-nano"], UnknownNameError, "unknown model"),
        (["--device", "cuda:77"], UserError, "cuda:77"),
        (["--lr", "1e30", "--steps", "30"], UserError, "loss is"),
        (["--lr", "1e300"], UserError, "--lr is 1e.300: it is above 0"),
        (["--seed", f"{10**30}"], UserError, "--seed is 10{30}, but must be from"),
    ],
)
def test_mistakes(arguments: list[str], error: type[Exception], words: str, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(error, match=words):
        invoke("train", "--data", str(corpus), "--out", str(tmp_path), *SMALL, *arguments)


def test_nothing_to_train_on(tmp_path: Path) -> None:
    (tmp_path / "00000.tar").write_bytes(b"<html>")
    with pytest.raises(EmptyCorpusError, match=r"0 samples.*tar_"):
        invoke("train", "--data", str(tmp_path), "--out", str(tmp_path / "out"), *SMALL)


def test_convert(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    result = invoke("convert", str(tmp_path / "a.pt"), str(tmp_path / "a.safetensors"))
    assert result.stdout.split()[0] == sha256_of(tmp_path / "a.safetensors")


@pytest.mark.slow
def test_vectors(corpus: Path, tmp_path: Path) -> None:
    sha = write_weights(tmp_path / "w.safetensors")
    options = ["--model", "proxy-mu", "--weights", f"{tmp_path}/w.safetensors", "--sha256", sha, "--json"]

    def vectors(*more: str) -> dict[str, Any]:
        result = invoke("vectors", "--data", str(corpus), "--out", f"{tmp_path}/out", *options, *more)
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    few = vectors("--samples", "10")
    assert few["vectors"] == 10 and vectors("--samples", "10") == few
    everything = vectors()
    assert 20 < everything["vectors"] < 4096
    stream = SampleStream(open_shards(str(corpus)), size=8, shuffle=0)
    assert len(list(stream)) == everything["vectors"]
    assert everything["skipped"] == stream.skipped != {}
    file = Weights(everything["url"], everything["sha256"])
    found = read_vectors(file, sha, torch.device("cpu"))
    assert found.image.shape == found.text.shape == (everything["vectors"], 64)
    assert torch.allclose(found.image.norm(dim=-1), torch.ones(everything["vectors"]), atol=1e-3)
    with pytest.raises(WeightsError, match="was created with the weights"):
        read_vectors(file, "0" * 64, torch.device("cpu"))
    with pytest.raises(WeightsError, match="is not a file of vectors"):
        read_vectors(Weights(f"{tmp_path}/w.safetensors", sha), sha, torch.device("cpu"))


def test_vectors_are_drawn_from_whole_shards_and_of_as_many_as_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not the first samples of shards, which may be sorted, and they are the same in every call."""
    for shard, n in enumerate((40, 2, 2, 2)):
        write_shard(tmp_path / "data" / f"{shard}.tar", shard, n, flaws=False)
    monkeypatch.setattr("curation.curating.vectors.SHARDS", 2)
    encoder: Any = SimpleNamespace(preprocess=SimpleNamespace(size=8, mode="squash"))
    shards = open_shards(str(tmp_path / "data"))
    whole = [example.uid for shard in shards for example in SampleStream([shard], size=8, shuffle=0)]
    everything = [example.uid for example in pairs(shards, 1000, encoder, Counter())]
    assert sorted(everything) == sorted(whole) and len(whole) == 46
    none = Counter[str]()
    some = [example.uid for example in pairs(shards, 20, encoder, none)]
    assert len(some) == len(set(some)) == 20 and some == [
        example.uid for example in pairs(shards[::-1], 20, encoder, none)
    ]
    first = [whole.index(uid) for uid in some if uid in whole[:40]]
    assert max(first) > 25


@pytest.mark.slow
def test_clusters(corpus: Path, tmp_path: Path) -> None:
    sha = write_weights(tmp_path / "w.safetensors")
    options = [
        "--model",
        "proxy-mu",
        "--weights",
        f"{tmp_path}/w.safetensors",
        "--sha256",
        sha,
        "--out",
        f"{tmp_path}/o",
    ]

    def clusters(*more: str) -> dict[str, Any]:
        result = invoke("clusters", "--data", str(corpus), *options, *more, "--json")
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    few = clusters("--clusters", "5", "--samples", "20")
    assert (few["clusters"], few["vectors"]) == (5, 20) and clusters("--clusters", "5", "--samples", "20") == few
    assert clusters("--clusters", "5", "--samples", "20", "--seed", "1")["sha256"] != few["sha256"]
    text = clusters("--clusters", "1000", "--of", "text")
    assert 20 < text["clusters"] == text["vectors"] < 1000, "never more centres than samples"
    for found, of in ((few, "image"), (text, "text")):
        centres = read_centres(Weights(found["url"], found["sha256"]), sha, of, torch.device("cpu"))
        assert torch.allclose(centres.norm(dim=-1), torch.ones(found["clusters"]), atol=1e-5)
    with pytest.raises(WeightsError, match="is not a file of vectors"):
        read_vectors(Weights(few["url"], few["sha256"]), sha, torch.device("cpu"))
    lines = invoke("clusters", "--data", str(corpus), *options, "--clusters", "5", "--samples", "20").output
    assert f"centres_sha256: {few['sha256']}" in lines and "  skipped " in lines


@pytest.mark.slow
def test_ls() -> None:
    rows = json.loads(invoke("ls", "--json").stdout)
    assert [row["model"] for row in rows] == ["proxy-mu", "proxy-ti", "proxy-s", "proxy-patches"]
    assert all(row["parameters"] > 1e6 and row["image_flops"] > 1e6 for row in rows[:3])
    assert rows[3]["objective"] == "classes"
    assert "ViT-B-32" in invoke("ls", "--all").stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--folds", "5"], "--folds requires --objective classes"),
        (["--label", "name"], "--label requires --objective classes"),
        (["--objective", "classes", "--pool", "elsewhere"], "--pool requires --objective dfn"),
        (["--objective", "classes", "--folds", "1"], "1 is not in the range"),
    ],
)
def test_folds_belong_to_classes(options: list[str], words: str, tmp_path: Path) -> None:
    result = invoke("train", "--data", "nowhere", "--out", str(tmp_path), *options)
    assert result.exit_code == 2 and words in result.output
