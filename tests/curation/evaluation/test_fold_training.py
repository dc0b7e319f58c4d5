"""Classifiers by folds: none judges what it learned, a killed training goes on, and the file holds what it says."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scorers_given import CPU

from curation.core.errors import EmptyCorpusError
from curation.core.folds import fold_of
from curation.core.holdout import content_of
from curation.evaluation import fold_training
from curation.evaluation.fold_training import FoldTraining, report, run
from curation.evaluation.job import TrainingJob
from curation.learners.training import Training
from curation.models.fold_classifiers import FoldClassifiers, FoldRule, shared_fold_classifiers
from curation.models.weights import Weights
from curation.shards.images import DecodeLimits, decode
from curation.shards.tar_writer import TarWriter

pytestmark = pytest.mark.slow

COLOURS = {"red": (40, 40, 220), "green": (40, 220, 40)}


def picture(name: str, seed: int) -> bytes:
    """A noisy picture of one colour, as PNG."""
    noise = np.random.default_rng(seed).integers(0, 30, (64, 64, 3))
    return cv2.imencode(".png", (np.array(COLOURS[name]) + noise).clip(0, 255).astype(np.uint8))[1].tobytes()


def samples(count: int = 60) -> list[tuple[bytes, Any]]:
    """Pictures with labels; two without a usable one."""
    names = list(COLOURS)
    found: list[tuple[bytes, Any]] = [(picture(names[i % 2], i), names[i % 2]) for i in range(count)]
    return [*found, (picture("red", 900), None), (picture("red", 901), "unique")]


def write(folder: Path, data: list[tuple[bytes, Any]]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "0.tar").open("wb") as file:
        writer = TarWriter(file)
        for number, (image, label) in enumerate(data):
            writer.add(f"{number:04d}.png", image)
            writer.add(f"{number:04d}.json", json.dumps({"name": label} if label else {}).encode())
            writer.add(f"{number:04d}.txt", b"a thing")
        writer.close()
    return str(folder)


def settings(
    data: str, out: Path, *, folds: int = 3, runs: int = 1, steps: int = 30, model: str = "proxy-mu"
) -> FoldTraining:
    training = Training(steps=steps, batch=16, lr=3e-3)
    job = TrainingJob(data=data, model=model, out=str(out), training=training, holdout=0.0, threads=1, device="cpu")
    return FoldTraining(job=job, rule=FoldRule(folds, runs))


def classifiers(card: dict[str, Any]) -> FoldClassifiers:
    return shared_fold_classifiers(card["model"], Weights(card["weights"], card["sha256"]), CPU, None)


def decoded(images: list[bytes], size: int = 64) -> np.ndarray[Any, Any]:
    return np.stack([decode(image, DecodeLimits(), size, "shortest") for image in images])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.set_num_threads(1)
    return write(tmp_path_factory.mktemp("corpus"), samples())


def test_it_trains_and_says_how_good_its_classifiers_are(corpus: str, tmp_path: Path) -> None:
    card = run(settings(corpus, tmp_path))
    assert card["classes"] == ["green", "red"] and card["samples"]["train"] == 60 and card["no_class"] == 2
    assert card["evaluation"]["out_of_fold"]["total"] == 60 and card["evaluation"]["out_of_fold"]["rate"] > 0.9
    assert sha256((tmp_path / card["key"]).read_bytes()).hexdigest() == card["sha256"]
    assert "60" in report(card) and "2 samples left out" in report(card)
    again = run(settings(corpus, tmp_path))
    assert again["reused"] and again["sha256"] == card["sha256"] and "already trained" in report(again)


def test_a_killed_training_repeats_the_missing_classifiers_alone(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(settings(corpus, tmp_path / "whole", steps=3))
    trained: list[int] = []
    plain = fold_training._train

    def counted(given: FoldTraining, data: Any, number: int, *rest: Any) -> Any:
        if len(trained) == 2 and number == 2:
            raise KeyboardInterrupt
        trained.append(number)
        return plain(given, data, number, *rest)

    monkeypatch.setattr(fold_training, "_train", counted)
    with pytest.raises(KeyboardInterrupt):
        run(settings(corpus, tmp_path / "killed", steps=3))
    assert trained == [0, 1] and not (tmp_path / "killed" / "card.json").exists()
    (damaged,) = (tmp_path / "killed" / "folds").glob("*/0-1.safetensors")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    trained.append(-1)
    assert run(settings(corpus, tmp_path / "killed", steps=3))["sha256"] == whole["sha256"]
    assert trained == [0, 1, -1, 1, 2], "the damaged one and the missing one"


def test_no_sample_judges_itself(tmp_path: Path) -> None:
    """A memorised sample: a unique picture with a wrong label, and copies of it, which the classifiers learn by heart.

    Every classifier that trained on it repeats its label; the one that judges it did not, whichever copy is asked.
    """
    odd = cv2.imencode(".png", np.full((64, 64, 3), (30, 60, 200), np.uint8))[1].tobytes()  # red, labelled green
    data = [*samples()[:60], *[(odd, "green")] * 30]
    card = run(settings(write(tmp_path / "corpus", data), tmp_path / "out", steps=80))
    folds = classifiers(card)
    content, fold = content_of(odd), fold_of(content_of(odd), 3)
    pixels = decoded([odd])
    each = [folds._distributions(number, pixels)[0] for number in range(3)]
    green = folds.classes.index("green")
    assert all(one[green] > 0.9 for number, one in enumerate(each) if number != fold), "they have memorised it"
    (judged,) = folds.runs(pixels, [content])
    assert judged[0][green] < 0.1 and judged[0] == pytest.approx(each[fold])
    (unknown,) = folds.runs(pixels, ["ab" * 16])
    assert unknown[0] == pytest.approx(np.mean(each, axis=0)), "another corpus: the mean of the folds"


def test_classifiers_of_patches_are_fitted_without_steps(corpus: str, tmp_path: Path) -> None:
    card = run(settings(corpus, tmp_path / "a", runs=2, model="proxy-patches"))
    assert card["steps"] == 0 and card["parameters"] == 400 * 109 and card["evaluation"]["out_of_fold"]["rate"] > 0.9
    assert run(settings(corpus, tmp_path / "b", runs=2, model="proxy-patches"))["sha256"] == card["sha256"]
    folds, images = classifiers(card), [image for image, _ in samples()[:20]]
    assert folds.preprocess.size == 32
    pixels, contents = decoded(images, 32), [content_of(image) for image in images]
    found = folds.runs(pixels, list(contents))
    assert np.allclose(found.sum(axis=2), 1) and not np.array_equal(found[0], found[1])
    for row, content in enumerate(contents):
        own = fold_of(content, 3)
        assert found[0, row] == pytest.approx(folds._distributions(own, pixels[row : row + 1])[0], abs=1e-6)
    guess = np.array(folds.classes)[found.mean(axis=0).argmax(axis=1)]
    assert (guess == [name for _, name in samples()[:20]]).mean() > 0.9


def test_runs_divide_the_pictures_independently(corpus: str, tmp_path: Path) -> None:
    card = run(settings(corpus, tmp_path, folds=2, runs=2, steps=2))
    assert card["evaluation"]["out_of_fold"]["total"] == 60, "each sample once"
    folds, images = classifiers(card), [image for image, _ in samples()[:20]]
    contents: list[str | None] = [content_of(image) for image in images]
    found = folds.runs(decoded(images), contents)
    assert found.shape == (2, 20, 2) and np.allclose(found.sum(axis=2), 1) and not np.allclose(found[0], found[1])
    for row, content in enumerate(contents):
        for number in range(2):
            own = 2 * number + fold_of(content or "", 2, number)
            assert found[number, row] == pytest.approx(folds._distributions(own, decoded([images[row]]))[0])


def test_too_little_data_is_one_line(corpus: str, tmp_path: Path) -> None:
    few = write(tmp_path / "few", samples(20))
    with pytest.raises(EmptyCorpusError, match=r"\d+ samples outside of fold 0, and a batch takes 16"):
        run(settings(few, tmp_path / "out", folds=2))
    unlabelled = write(tmp_path / "none", [(image, None) for image, _ in samples(20)])
    with pytest.raises(EmptyCorpusError, match=r"0 labels .*field `name`"):
        run(settings(unlabelled, tmp_path / "out"))
