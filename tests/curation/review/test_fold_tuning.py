"""Fine-tuning of fold classifiers: no picture trains its own judge, and the rounds before leave no trace."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from labelled_colours import CLASSES, CPU, colour_queue, coloured, train_folds

from curation.core.folds import fold_of
from curation.core.holdout import content_of
from curation.models.fold_classifiers import FoldClassifiers, shared_fold_classifiers
from curation.models.weights import Weights
from curation.review.fold_tuning import LEAST, fine_tuned
from curation.shards.images import DecodeLimits, decode


@pytest.fixture(scope="module", params=["proxy-mu", "proxy-patches"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FoldClassifiers:
    """Classifiers of two models that take red for green: they learned inverted labels."""
    root = tmp_path_factory.mktemp("base")
    colour_queue(root, 60, range(60))
    card = train_folds(root / "corpus", root / "folds", steps=1, model=request.param)
    return shared_fold_classifiers(card["model"], Weights(card["weights"], card["sha256"]), CPU, None)


def pictures(base: FoldClassifiers, seeds: range) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Pictures that no classifier has seen, green and red in turn, with their true labels."""
    data = [coloured(CLASSES[seed % 2], 1000 + seed) for seed in seeds]
    pixels = np.stack([decode(one, DecodeLimits(), base.preprocess.size, "shortest") for one in data])
    return pixels, [content_of(one) for one in data], np.array([seed % 2 for seed in seeds], np.int64)


def states(folds: FoldClassifiers) -> list[dict[str, torch.Tensor]]:
    return [module.state_dict() for module in folds.modules]


def changed(one: FoldClassifiers, other: FoldClassifiers) -> list[bool]:
    pairs = zip(states(one), states(other), strict=True)
    return [any(not torch.equal(a[name], b[name]) for name in a) for a, b in pairs]


def test_a_picture_never_trains_its_own_judge(base: FoldClassifiers) -> None:
    """Pictures of one fold alone: the classifier of this fold stays bit for bit, the others learn."""
    pixels, contents, targets = pictures(base, range(60))
    own = np.flatnonzero([fold_of(text, 3) == 1 for text in contents])
    assert len(own) >= LEAST
    tuned = fine_tuned(base, pixels[own], [contents[n] for n in own], targets[own])
    assert changed(base, tuned) == [True, False, True]
    (before,), (judged,) = (
        base.runs(pixels[own], ["ab" * 16] * len(own)),
        tuned.runs(pixels[own], [contents[n] for n in own]),
    )
    assert judged == pytest.approx(base._distributions(1, pixels[own])), "judged by the one that did not learn them"
    rows = range(len(own))
    assert tuned._distributions(0, pixels[own])[rows, targets[own]].mean() > before[rows, targets[own]].mean()


def test_copies_and_later_pictures_are_judged_out_of_fold(base: FoldClassifiers) -> None:
    pixels, contents, targets = pictures(base, range(30))
    tuned = fine_tuned(base, pixels, contents, targets)
    (found,) = tuned.runs(pixels, contents)
    for row, text in enumerate(contents):
        assert found[row] == pytest.approx(tuned._distributions(fold_of(text, 3), pixels[row : row + 1])[0])
    (other,) = tuned.runs(pixels[:1], ["cd" * 16])
    each = [tuned._distributions(number, pixels[:1])[0] for number in range(3)]
    assert other[0] == pytest.approx(np.mean(each, axis=0)), "a picture that none has seen"


def test_it_depends_on_the_pictures_alone(base: FoldClassifiers) -> None:
    pixels, contents, targets = pictures(base, range(30))
    before = [{name: tensor.clone() for name, tensor in state.items()} for state in states(base)]
    first, second = (fine_tuned(base, pixels, contents, targets) for _ in range(2))
    assert changed(first, second) == [False] * 3
    assert all(torch.equal(a[name], b[name]) for a, b in zip(before, states(base), strict=True) for name in a)


def test_too_few_pictures_change_nothing(base: FoldClassifiers) -> None:
    pixels, contents, targets = pictures(base, range(LEAST - 1))
    assert changed(base, fine_tuned(base, pixels, contents, targets)) == [False] * 3
