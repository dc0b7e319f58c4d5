"""The classifier: its scores are its losses, parts add up to the whole, and it learns colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from curation.core.errors import EmptyCorpusError, UserError
from curation.learners.classification import ClassLearner, accuracy, labelled, shared_labels
from curation.learners.training import Training
from curation.models.batches import Examples, SuperBatch, TrainingBatch

NAMES = ["blue", "green", "red"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def colours(count: int, seed: int = 0) -> tuple[Examples, torch.Tensor]:
    """Noisy pictures of one colour each, and their classes."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, 3, count)
    pixels = random.integers(0, 60, (count, 64, 64, 3)).astype(np.uint8)
    pixels[np.arange(count), :, :, 2 - classes] += 150
    labels = [NAMES[number] for number in classes]
    return Examples(pixels, labels, [f"{row:032x}" for row in range(count)], labels), torch.tensor(classes)


def learner(**settings: object) -> ClassLearner:
    return ClassLearner("proxy-mu", NAMES, Training(steps=20, batch=24, **settings))  # type: ignore[arg-type]


def batch_of(count: int) -> TrainingBatch:
    examples, classes = colours(count)
    return TrainingBatch(torch.from_numpy(examples.pixels), classes)


def test_scores_are_the_cross_entropies_of_its_logits() -> None:
    one, batch = learner(), batch_of(24)
    losses = one.outputs(SuperBatch(torch.arange(24), batch)).losses()
    assert torch.allclose(losses, cross_entropy(one.logits(batch.pixels), batch.targets, reduction="none"))


@pytest.mark.slow
def test_it_learns() -> None:
    one = learner(averaging=0.5)
    examples, _ = colours(48, seed=1)
    for number in range(20):
        some, classes = colours(24, seed=2 + number)
        one.step(TrainingBatch(torch.from_numpy(some.pixels), classes))
    assert accuracy(one, examples).rate == 1.0


@pytest.mark.parametrize("size", [7, 24])
def test_a_batch_in_parts_is_the_same_update(size: int) -> None:
    whole, parts = learner(max_norm=1e9), learner(max_norm=1e9, micro_batch=size)
    reports = [one.step(batch_of(24)) for one in (whole, parts)]
    assert reports[0].loss.item() == pytest.approx(reports[1].loss.item(), rel=1e-5)
    assert reports[0].gradient_norm.item() == pytest.approx(reports[1].gradient_norm.item(), rel=1e-4)


def test_goes_on_to_the_bit() -> None:
    straight, broken = learner(averaging=0.9), learner(averaging=0.9)
    for _ in range(2):
        straight.step(batch_of(24)), broken.step(batch_of(24))
    other = learner(averaging=0.9)
    other.restore(broken.state())
    for one in (straight, other):
        one.step(batch_of(24))
    assert all(torch.equal(straight.tensors()[name], tensor) for name, tensor in other.tensors().items())


def test_classes_are_labels_that_are_shared() -> None:
    assert shared_labels(["b", "a", "b", "a", "c", "", ""]) == ["a", "b"]
    with pytest.raises(EmptyCorpusError, match="0 labels"):
        shared_labels(["a", "b", ""])


def test_a_sample_of_an_unknown_class_is_left_out() -> None:
    examples, classes = colours(12)
    known, places = labelled(examples, NAMES[:2])
    assert known.labels == [label for label in examples.labels if label != "red"]
    assert places.tolist() == [number for number in classes.tolist() if number < 2]
    with pytest.raises(UserError, match="label"):
        labelled(examples, ["violet", "white"])
