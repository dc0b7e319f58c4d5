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
from curation.review.fold_tuning import LEAST, Pictures, fine_tuned
from curation.shards.images import DecodeLimits, decode


@pytest.fixture(scope="module", params=["proxy-mu", "proxy-patches"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FoldClassifiers:
    """Classifiers of two models that take red for green: they learned inverted labels."""
    root = tmp_path_factory.mktemp("base")
    colour_queue(root, 60, range(60))
    card = train_folds(root / "corpus", root / "folds", steps=1, model=request.param)
    return shared_fold_classifiers(card["model"], Weights(card["weights"], card["sha256"]), CPU, None)


def pictures(base: FoldClassifiers, seeds: range) -> tuple[Pictures, np.ndarray]:
    """Pictures that no classifier has seen, green and red in turn, with their true classes."""
    data = [coloured(CLASSES[seed % 2], 1000 + seed) for seed in seeds]
    pixels = np.stack([decode(one, DecodeLimits(), base.preprocess.size, "shortest") for one in data])
    return Pictures(pixels, [content_of(one) for one in data]), np.array([seed % 2 for seed in seeds], np.int64)


def chosen(some: Pictures, rows: np.ndarray) -> Pictures:
    return Pictures(some.pixels[rows], [some.contents[row] for row in rows])


def states(folds: FoldClassifiers) -> list[dict[str, torch.Tensor]]:
    return [module.state_dict() for module in folds.modules]


def changed(one: FoldClassifiers, other: FoldClassifiers) -> list[bool]:
    pairs = zip(states(one), states(other), strict=True)
    return [any(not torch.equal(a[name], b[name]) for name in a) for a, b in pairs]


@pytest.mark.slow
def test_a_picture_never_trains_its_own_judge(base: FoldClassifiers) -> None:
    """Pictures of one fold alone: the classifier of this fold stays bit for bit, the others learn."""
    some, targets = pictures(base, range(60))
    own = np.flatnonzero([fold_of(text, 3) == 1 for text in some.contents])
    assert len(own) >= LEAST
    given, truth, rows = chosen(some, own), targets[own], range(len(own))
    tuned = fine_tuned(base, given, truth, chosen(some, own[:0]))
    assert changed(base, tuned) == [True, False, True]
    (judged,) = tuned.runs(*given)
    assert judged == pytest.approx(base._distributions(1, given.pixels)), "judged by the one that did not learn them"
    before, after = (folds._distributions(0, given.pixels)[rows, truth].mean() for folds in (base, tuned))
    assert after > before, "the others learn"


@pytest.mark.slow
def test_pictures_without_an_answer_train_no_judge_of_theirs_either(base: FoldClassifiers) -> None:
    """The answered pictures teach all but fold 1; so the others, of fold 2, teach fold 0 alone."""
    some, targets = pictures(base, range(90))
    folds = np.array([fold_of(text, 3) for text in some.contents])
    taught, rest = np.flatnonzero(folds == 1), np.flatnonzero(folds == 2)
    alone, both = (
        fine_tuned(base, chosen(some, taught), targets[taught], chosen(some, rows)) for rows in (rest[:0], rest)
    )
    assert changed(alone, both) == [True, False, False]
    (judged,) = both.runs(*chosen(some, rest))
    assert judged == pytest.approx(both._distributions(2, some.pixels[rest])), "listed, so that one judge is left"


@pytest.mark.slow
def test_copies_and_later_pictures_are_judged_out_of_fold(base: FoldClassifiers) -> None:
    some, targets = pictures(base, range(30))
    tuned = fine_tuned(base, some, targets, chosen(some, np.arange(0)))
    (found,) = tuned.runs(*some)
    for row, text in enumerate(some.contents):
        assert found[row] == pytest.approx(tuned._distributions(fold_of(text, 3), some.pixels[row : row + 1])[0])
    (other,) = tuned.runs(some.pixels[:1], ["cd" * 16])
    each = [tuned._distributions(number, some.pixels[:1])[0] for number in range(3)]
    assert other[0] == pytest.approx(np.mean(each, axis=0)), "a picture that none has seen"


@pytest.mark.slow
def test_it_depends_on_the_pictures_alone(base: FoldClassifiers) -> None:
    some, targets = pictures(base, range(30))
    before = [{name: tensor.clone() for name, tensor in state.items()} for state in states(base)]
    rows = np.arange(20)
    first, second = (
        fine_tuned(base, chosen(some, rows), targets[:20], chosen(some, np.arange(20, 30))) for _ in range(2)
    )
    assert changed(first, second) == [False] * 3
    assert all(torch.equal(a[name], b[name]) for a, b in zip(before, states(base), strict=True) for name in a)


@pytest.mark.slow
def test_others_hold_the_classifiers_where_they_are(base: FoldClassifiers) -> None:
    """A wrong answer changes the distributions of the others less if they are shown."""
    some, targets = pictures(base, range(60))
    answered, rest = np.arange(20), np.arange(20, 60)
    moved = []
    for shown in (rest, rest[:0]):
        tuned = fine_tuned(base, chosen(some, answered), targets[:20], chosen(some, shown))
        moved.append(abs(tuned._distributions(0, some.pixels[rest]) - base._distributions(0, some.pixels[rest])).mean())
    assert moved[0] < moved[1]


def test_too_few_pictures_change_nothing(base: FoldClassifiers) -> None:
    some, targets = pictures(base, range(LEAST - 1))
    assert changed(base, fine_tuned(base, some, targets, chosen(some, np.arange(0)))) == [False] * 3
