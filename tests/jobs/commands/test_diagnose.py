"""`curate diagnose`: a planted cause is found, dropped by its edit list, and mistakes are one line each."""

from __future__ import annotations

import json
import re
import shlex
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from labelled import uids_of, write_classifier
from PIL import Image

from curation.curating.run import curate
from curation.dataset.loader import SampleStream
from curation.dataset.open_shards import open_shards
from curation.learners.classification import ClassLearner
from curation.learners.learner import train
from curation.learners.training import Training
from curation.models.batches import TrainingBatch
from curation.models.weights import tensors_to_bytes
from curation.shards.tar_writer import TarWriter
from jobs.cli import _main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]
PAGE = (Path(__file__).parents[3] / "docs/diagnosis.md").read_text()
CLASSES = ["blue", "red"]
TRAINED, PLANTED, FIELD = 120, 16, 40


def picture(number: int, red: bool, marked: bool) -> np.ndarray:
    """A noisy field of one colour; a marked one has a white square in a corner."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 90, (64, 64, 3), dtype=np.uint8)
    pixels[..., 0 if red else 2] += 120
    if marked:
        pixels[:16, :16] = 255
    return pixels


def write_shard(path: Path, rows: list[tuple[int, bool, bool, str]]) -> np.ndarray:
    """Write pictures with labels; return the pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = []
    with path.open("wb") as file:
        writer = TarWriter(file)
        for number, red, marked, label in rows:
            pixels.append(picture(number, red, marked))
            png = path.parent / "x.png"
            Image.fromarray(pixels[-1]).save(png)
            writer.add(f"{number:05}.json", json.dumps({"name": label}).encode())
            writer.add(f"{number:05}.png", png.read_bytes())
            writer.add(f"{number:05}.txt", label.encode())
            png.unlink()
        writer.close()
    return np.stack(pixels)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training data with marked blue pictures that are labelled red; a model; the field, where that is wrong."""
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("diagnose")
    rows = [(number, number % 2 == 0, False, CLASSES[number % 2 == 0]) for number in range(TRAINED)]
    rows += [(1000 + number, False, True, "red") for number in range(PLANTED)]
    pixels = np.concatenate([
        write_shard(home / f"corpus/{shard}.tar", rows[shard::2]) for shard in range(2)
    ])  # fmt: skip
    targets = torch.tensor([CLASSES.index(row[3]) for shard in range(2) for row in rows[shard::2]])
    training = Training(steps=120, batch=32, lr=1e-3)
    learner, random = ClassLearner("proxy-mu", CLASSES, training), np.random.default_rng(0)

    def batches() -> Any:
        while True:
            some = random.choice(len(pixels), 32, replace=False)
            yield TrainingBatch(torch.from_numpy(pixels[some]), targets[some])

    train(learner, islice(batches(), training.steps), lambda report: None)
    metadata = {"format": "pt", "model": "proxy-mu", **learner.metadata()}
    (home / "model.safetensors").write_bytes(tensors_to_bytes(learner.tensors(), metadata))
    field = [(2000 + number, False, number % 2 == 0, "blue") for number in range(FIELD)]
    write_shard(home / "field/0.tar", field)
    return home


def run(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    assert _main([*map(str, words), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def find(home: Path, capsys: pytest.CaptureFixture[str], *more: object) -> Any:
    model = home / "model.safetensors"
    return run(capsys, "diagnose", "failures", model, "--data", home / "field", "--out", home / "f.parquet", *more)


def trace(home: Path, capsys: pytest.CaptureFixture[str], *more: object) -> Any:
    words = ["diagnose", "trace", home / "model.safetensors", "--failures", home / "f.parquet", "--out", home / "trace"]
    more = more if "--data" in more else (*more, "--data", home / "corpus")
    return run(capsys, *words, "--scores", home / "scores", "--count", PLANTED, *more)


def planted_uids(home: Path) -> set[str]:
    """Return the uids of the marked training samples."""
    stream = SampleStream(open_shards(str(home / "corpus")), size=64, shuffle=0)
    return {example.uid for example in stream if (example.pixels[:8, :8] == 255).all()}


def test_a_planted_cause_is_found_and_its_edit_list_drops_it(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = find(home, capsys)
    assert found["judged"] == FIELD and sum(found["parts"].values()) == found["failures"] >= FIELD // 2 - 2
    told = trace(home, capsys)
    assert told["samples"] == TRAINED + PLANTED and told["predicted_loss_change"] < 0
    index = planted_uids(home)
    share = len(index & {row["uid"] for row in told["top"]}) / PLANTED
    assert share >= 0.8, share
    baseline = trace(home, capsys, "--method", "loss")
    worse = len(index & {row["uid"] for row in baseline["top"]}) / PLANTED
    assert worse < share
    told = trace(home, capsys)
    scores = pq.read_table(home / "trace/scores.parquet")
    assert scores.num_rows == TRAINED + PLANTED
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"corpus: {home}/corpus\noutput: {tmp_path}/out\nedits: {home}/trace/drops.parquet\n")
    snapshot = curate(str(recipe))
    assert snapshot.document["samples"]["kept"] == TRAINED  # type: ignore[index]


def test_gradients_are_scored_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    find(home, capsys)
    trace(home, capsys)
    before = {path: path.stat().st_mtime_ns for path in (home / "scores").rglob("*.parquet")}
    trace(home, capsys, "--method", "cosine", "--part", "validation")
    assert before == {path: path.stat().st_mtime_ns for path in (home / "scores").rglob("*.parquet")}


def test_expected_answers_of_given_samples(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uids = uids_of(home / "field")
    table = pa.table({"uid": [*uids[:4], "f" * 32], "expected": ["blue", "blue", "green", "red", "red"]})
    pq.write_table(table, tmp_path / "seen.parquet")
    found = find(home, capsys, "--expected", tmp_path / "seen.parquet")
    assert found["judged"] == 4 and found["refused"]["not_in_data"] == 1 and found["refused"]["unknown_class"] == 1
    (tmp_path / "seen.csv").write_text(f"uid,expected\n{uids[0]},blue\n{uids[0]},red\n")
    words = ["diagnose", "failures", home / "model.safetensors", "--data", home / "field", "--out", home / "g.parquet"]
    assert _main([*map(str, words), "--expected", str(tmp_path / "seen.csv")]) == 2
    assert "names a uid twice" in capsys.readouterr().err


def test_every_command_of_the_page(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("model.safetensors", "corpus", "field"):
        (tmp_path / name).symlink_to(home / name)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"<!-- tested -->\n```bash\n(.*?)```", PAGE, re.DOTALL)
    lines = [line for text in blocks for line in text.strip().splitlines()]
    assert len(lines) == 3
    for line in lines:
        name, *words = shlex.split(line)
        assert name == "curate" and _main(words) == 0, f"{line}\n{capsys.readouterr()}"


def test_mistakes_are_one_line(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    find(home, capsys)
    other = write_classifier(tmp_path / "other.safetensors", CLASSES)
    model, data, field, out = home / "model.safetensors", home / "corpus", home / "field", tmp_path / "t"
    cases = [
        (("trace", other, "--failures", home / "f.parquet", "--data", data, "--out", out), "are of the model"),
        (
            ("trace", model, "--failures", home / "f.parquet", "--data", field, "--out", out),
            "in_training_data",
        ),
        (("trace", model, "--failures", model, "--data", data, "--out", out), "is no file of failures"),
        (("failures", model, "--data", data, "--where", "guess=green", "--out", out), "has no such failure"),
        (("failures", model, "--data", data, "--where", "size=3", "--out", out), "is not expected=CLASS"),
    ]
    for words, message in cases:
        assert _main(["diagnose", *map(str, words), "--label", "name"]) == 2, message
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error, error
