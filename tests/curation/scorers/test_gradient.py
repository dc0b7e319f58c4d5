"""The gradient scorer: sketches of a classifier's and a dual encoder's gradients, and what has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scorers_given import CLASSES, CPU, Fields, all_fields, batch, make

from curation.core.errors import WeightsError
from curation.gradients import GradientSketch, PairLosses, class_losses
from curation.models.dual import load_dual_encoder
from curation.models.tokenizer import tokenizer_for
from curation.models.towers import PixelNormaliser
from curation.models.trained_classifier import load_classifier
from curation.models.vectors import read_vectors
from curation.models.weights import Weights
from curation.scorers.scorer import Batch, PartlyScored


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Fields:
    torch.set_num_threads(1)
    return all_fields(tmp_path_factory.mktemp("gradient"))


def of_pairs(given: Fields) -> dict[str, object]:
    fields = given["negclip_loss"]
    return {**fields, "numbers": 5}


def pixels_of(some: Batch) -> np.ndarray:
    return next(iter(some.views.values()))


def rows_of(values: object) -> np.ndarray:
    return np.array(values.to_pylist(), np.float32)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_classifier_s_gradient_is_that_of_the_label_s_cross_entropy(given: Fields) -> None:
    fields = {**given["gradient"], "numbers": 5, "seed": 2}
    scorer = make("gradient", fields)
    some = batch([0, 1, 2, 3], scorer)
    found = scorer.load(CPU)(some)
    assert isinstance(found, PartlyScored) and not found.reasons
    module, classes = load_classifier("proxy-mu", Weights(fields["weights"], fields["sha256"]))
    assert classes == list(CLASSES)
    inputs = PixelNormaliser(scorer.views()[0])(torch.from_numpy(pixels_of(some)))
    targets = torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 0]), 3).float()  # the labels of `columns`
    expected = GradientSketch(module, class_losses, numbers=5, seed=2)(inputs, targets)
    np.testing.assert_array_equal(rows_of(found.values), expected.numpy())


def test_a_dual_encoder_s_gradient_is_that_of_the_pair_among_fixed_pairs(given: Fields) -> None:
    fields = of_pairs(given)
    scorer = make("gradient", fields)
    some = batch([0, 1, 2], scorer)
    own = Weights(str(fields["weights"]), str(fields["sha256"]))
    against = Weights(str(fields["against"]), str(fields["against_sha256"]))
    losses = PairLosses(*read_vectors(against, own.sha256, CPU))
    sketch = GradientSketch(load_dual_encoder("proxy-mu", own).module, losses, numbers=5)
    inputs = PixelNormaliser(scorer.views()[0])(torch.from_numpy(pixels_of(some)))
    expected = sketch(inputs, tokenizer_for("proxy-mu")(list(some.captions)))
    np.testing.assert_array_equal(rows_of(scorer.load(CPU)(some)), expected.numpy())
    assert any(name.startswith("transformer.") for name in sketch.layers), "the text tower is part of it"


def test_samples_without_a_class_have_a_reason(given: Fields) -> None:
    scorer = make("gradient", given["gradient"])
    some = batch([0, 1, 2, 3], scorer)
    some.columns["json.name"][:] = ["cat", None, "wolf", [1]]  # type: ignore[index]
    found = scorer.load(CPU)(some)
    assert isinstance(found, PartlyScored)
    assert found.reasons == {1: "no_label", 2: "unknown_class", 3: "bad_label"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"against": "v.safetensors", "against_sha256": "0" * 64}, "give either label"),
        ({"label": None}, "give either label"),
        ({"label": None, "against": "v.safetensors"}, "must be given together"),
        ({"numbers": 0}, "numbers is 0"),
    ],
)
def test_settings_that_contradict_each_other(changes: dict[str, object], message: str, given: Fields) -> None:
    fields = {name: value for name, value in {**given["gradient"], **changes}.items() if value is not None}
    with pytest.raises(Exception, match=message):
        make("gradient", fields)


def test_weights_of_another_kind_are_refused_from_their_header(given: Fields, tmp_path: Path) -> None:
    encoder = {name: given["clip_score"][name] for name in ("model", "weights", "sha256")}
    with pytest.raises(WeightsError, match="names no classes"):
        make("gradient", {**encoder, "label": "name"}).check()  # type: ignore[attr-defined]
    with pytest.raises(WeightsError):
        make("gradient", {**of_pairs(given), **{k: given["gradient"][k] for k in ("weights", "sha256")}}).check()  # type: ignore[attr-defined]
