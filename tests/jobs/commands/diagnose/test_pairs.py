"""`curate diagnose failures|trace` of a dual encoder: pairs among fixed pairs; what takes classifiers alone says so."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from builders import write_weights
from diagnosed import FIELD, PLANTED, TRAINED, run

from curation.dataset.loader import SampleStream
from curation.dataset.open_shards import open_shards
from curation.diagnosis.failures import read_failures
from curation.gradients import PairLosses
from curation.models.dual import load_dual_encoder
from curation.models.vectors import read_vectors
from curation.models.weights import Weights, read_tensors, tensors_to_bytes
from jobs.cli import _main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]


@pytest.fixture(scope="module")
def encoder(home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Weights, Path]:
    """A dual encoder, and pairs of the corpus as its vectors."""
    folder = tmp_path_factory.mktemp("pairs")
    path = folder / "w.safetensors"
    write_weights(path)
    data = tensors_to_bytes(read_tensors(path), {"format": "pt", "model": "proxy-mu"})  # as `curate learn` writes them
    path.write_bytes(data)
    words = ["proxy", "vectors", "--data", home / "corpus", "--model", "proxy-mu", "--weights", path,
             "--sha256", sha256(data).hexdigest(), "--samples", 20, "--out", folder / "vectors"]  # fmt: skip
    assert _main([*map(str, words)]) == 0
    (vectors,) = (folder / "vectors").glob("*.safetensors")
    return Weights(str(path), sha256(data).hexdigest()), vectors


def test_pairs_that_fail_are_traced(
    home: Path, encoder: tuple[Weights, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, vectors = encoder
    failures = tmp_path / "f.parquet"
    found = run(capsys, "diagnose", "failures", weights.url, "--data", home / "field", "--against", vectors,
                "--scores", tmp_path / "scores", "--out", failures)  # fmt: skip
    model = load_dual_encoder("proxy-mu", weights, torch.device("cpu"))
    others = read_vectors(
        Weights(str(vectors), sha256(vectors.read_bytes()).hexdigest()), weights.sha256, torch.device("cpu")
    )
    right, uids = 0, set[str]()
    for one in SampleStream(open_shards(str(home / "field")), size=64, shuffle=0):
        image, text = model.image(one.pixels[None]), model.text([one.caption])
        own, captions, pictures = PairLosses(*others).logits(model.module, image, text)
        matches = bool(torch.cat([captions, pictures], 1).max() <= own)
        right += matches
        uids |= set() if matches else {one.uid}
    table = read_failures(str(failures)).table
    assert found["judged"] == FIELD and 0 < found["failures"] == FIELD - right
    assert set(table.column("uid").to_pylist()) == uids
    assert set(table.column("expected").to_pylist()) == {"own"} and set(table.column("guess").to_pylist()) == {"other"}
    given = ["--data", home / "corpus", "--scores", tmp_path / "scores", "--count", 5, "--out", tmp_path / "trace"]
    traced = run(capsys, "diagnose", "trace", weights.url, "--failures", failures, "--against", vectors, *given)
    assert traced["samples"] == TRAINED + PLANTED and len(traced["top"]) == 5 and traced["failures"] > 0
    scores = pq.read_table(tmp_path / "trace/scores.parquet")
    assert len(set(scores.column("score").to_pylist())) > TRAINED, "every pair has a gradient of its own"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--method", "last_layer"], "is traced by its own weights"),
        (["--checkpoint", "MODEL"], "is traced by its own weights"),
        (["--queue", "q"], "takes no --queue"),
    ],
)
def test_what_pairs_do_not_have(
    home: Path, encoder: tuple[Weights, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    more: list[str], message: str,
) -> None:  # fmt: skip
    weights, vectors = encoder
    run(capsys, "diagnose", "failures", weights.url, "--data", home / "field", "--against", vectors, "--out",
        tmp_path / "f.parquet")  # fmt: skip
    more = [weights.url if one == "MODEL" else one for one in more]
    words = ["diagnose", "trace", weights.url, "--failures", tmp_path / "f.parquet", "--against", vectors, *more]
    assert _main([*map(str, words), "--data", f"{home}/corpus", "--out", f"{tmp_path}/t"]) == 2
    assert message in capsys.readouterr().err


def test_kinds_of_models_are_not_mixed_up(
    home: Path, encoder: tuple[Weights, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, vectors = encoder
    given = ["--data", home / "field", "--out", tmp_path / "f"]
    for words, message in (
        ([weights.url], "is no classifier"),
        ([home / "model.safetensors", "--against", vectors], "its loss needs no other pairs"),
    ):
        assert _main([*map(str, ["diagnose", "failures", *words, *given])]) == 2
        assert message in capsys.readouterr().err
