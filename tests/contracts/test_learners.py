"""The contract of every kind of learner in the table, and of every model that it builds."""

from __future__ import annotations

import dataclasses
import inspect
import re
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import yaml

from curation.learners import LEARNERS, LearnerKind
from curation.learners.kind import HoldoutUnit, LossUnit
from curation.learners.training import Training
from curation.models.batches import Examples, SuperBatch, TrainingBatch
from curation.models.model_outputs import Losses
from curation.models.weights import Weights, tensors_to_bytes
from curation.storage.store import StoreOptions

NAMES = sorted(LEARNERS)
MODEL = "proxy-mu"
B = 6
LABELS = ["red", "blue", "red", "blue", "red", "alone"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def kind(name: str, **settings: Any) -> LearnerKind:
    return LEARNERS[name](model=MODEL, steps=4, batch=4, **settings)


def examples() -> Examples:
    pixels = np.random.default_rng(0).integers(0, 255, (B, 64, 64, 3)).astype(np.uint8)
    return Examples(pixels, [f"a picture {row}" for row in range(B)], [f"{row:032x}" for row in range(B)], LABELS)


def classes_of(one: LearnerKind) -> list[str]:
    counts = {label: LABELS.count(label) for label in LABELS}
    return one.classes(counts)


def usable(one: LearnerKind) -> tuple[Examples, SuperBatch]:
    some = examples()
    rows = list(one.usable_rows(some, classes_of(one)))
    some = some.take(rows)
    targets = one.targets(some, classes_of(one))
    return some, SuperBatch(torch.arange(len(rows)), TrainingBatch(torch.from_numpy(some.pixels), targets.long()))


@pytest.mark.parametrize("name", NAMES)
def test_a_kind_is_a_frozen_dataclass_with_an_example(name: str) -> None:
    cls = LEARNERS[name]
    assert dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    text = inspect.cleandoc(cls.__doc__ or "")
    assert "When to use: " in text and "Cost: " in text and "Source: " in text
    ((named, fields),) = yaml.safe_load(text.partition("Example: ")[2]).items()
    assert named == name and isinstance(cls(**fields), LearnerKind)


@pytest.mark.parametrize("name", NAMES)
def test_its_attributes_are_words_that_a_run_knows(name: str) -> None:
    one = kind(name, seed=3)
    assert one.holdout_unit in get_args(HoldoutUnit) and one.loss_unit in get_args(LossUnit)
    assert one.training == Training(steps=4, batch=4, seed=3)
    assert (one.label_field is None) == (classes_of(one) == [])


@pytest.mark.parametrize("name", NAMES)
def test_its_model_scores_and_learns_from_its_own_targets(name: str) -> None:
    one = kind(name)
    some, candidates = usable(one)
    model = one.build(MODEL, one.training, classes_of(one))
    before = model.fingerprint()
    outputs = model.outputs(candidates)
    assert outputs.losses().shape == (len(some),) and outputs.losses().isfinite().all()
    assert isinstance(outputs, Losses) != one.has_pairs
    assert (model.pair_flops() > 0) == one.has_pairs and model.head_flops() >= 0
    assert model.fingerprint() == before, "scoring changes no weight"
    report = model.step(candidates.batch)
    assert model.steps == 1 and report.loss.isfinite() and model.fingerprint() != before
    assert (sum(report.text_lengths.values()) == len(some)) == model.reads_captions
    assert 0 <= model.evaluate(some)["quality"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_its_weights_are_a_reference_for_the_next_run(name: str, tmp_path: Path) -> None:
    one = kind(name)
    _, candidates = usable(one)
    model = one.build(MODEL, one.training, classes_of(one))
    model.step(candidates.batch)
    data = tensors_to_bytes(model.tensors(), {"model": MODEL, **model.metadata()})
    path = tmp_path / "reference.safetensors"
    path.write_bytes(data)
    weights = Weights(str(path), sha256(data).hexdigest())
    one.check_reference(MODEL, weights, StoreOptions())
    again = one.load_reference(MODEL, weights, one.training, classes_of(one), "cpu", StoreOptions())
    assert torch.equal(again.outputs(candidates).losses(), model.outputs(candidates).losses())


def test_no_other_room_names_a_kind_of_learner() -> None:
    """Differences between kinds are methods or attributes of the kinds."""
    root = Path(__file__).resolve().parents[2]
    named = re.compile(r"\b(Contrastive|Classification|ClipLearner|ClassLearner)\b")
    allowed = {  # each trains one kind alone
        "curation/evaluation/training.py",
        "curation/evaluation/fold_training.py",
    }
    found = [
        str(path.relative_to(root))
        for room in ("recipes", "selection", "learning", "evaluation")
        for path in sorted((root / "curation" / room).glob("*.py"))
        if named.search(path.read_text())
    ]
    assert set(found) <= allowed
