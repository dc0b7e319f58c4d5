"""A planted failure for tests of `curate diagnose`: marked blue pictures that a training set labels red."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from curation.dataset.loader import SampleStream
from curation.dataset.open_shards import open_shards
from curation.learners.classification import ClassLearner
from curation.learners.learner import train
from curation.learners.training import Training
from curation.models.batches import TrainingBatch
from curation.models.weights import tensors_to_bytes
from curation.shards.tar_writer import TarWriter
from jobs.cli import _main

CLASSES = ["blue", "red"]
TRAINED, PLANTED, FIELD = 120, 16, 80


def picture(number: int, red: bool, marked: bool) -> np.ndarray:
    """A noisy field of one colour; a marked one has a white square in a corner. No two are near-duplicates."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 60, (64, 64, 3), dtype=np.uint8)
    pixels += random.integers(0, 70, (8, 8, 1), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
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


def build(home: Path) -> Path:
    """Write training data, a model trained on them, and the field, where the model is wrong about marked pictures."""
    torch.set_num_threads(1)
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


def find_failures(home: Path, capsys: pytest.CaptureFixture[str], *more: object) -> Any:
    model = home / "model.safetensors"
    return run(capsys, "diagnose", "failures", model, "--data", home / "field", "--out", home / "f.parquet", *more)


def trace_failures(home: Path, capsys: pytest.CaptureFixture[str], *more: object) -> Any:
    words = ["diagnose", "trace", home / "model.safetensors", "--failures", home / "f.parquet", "--out", home / "trace"]
    more = more if "--data" in more else (*more, "--data", home / "corpus")
    return run(capsys, *words, "--scores", home / "scores", "--count", PLANTED, *more)


def planted_uids(home: Path) -> set[str]:
    """Return the uids of the marked training samples."""
    stream = SampleStream(open_shards(str(home / "corpus")), size=64, shuffle=0)
    return {example.uid for example in stream if (example.pixels[:8, :8] == 255).all()}
