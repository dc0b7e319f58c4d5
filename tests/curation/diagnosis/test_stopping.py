"""Early stopping: the best weights by validation among those that keep each class, whatever comes after."""

from __future__ import annotations

import torch
from marked_pictures import failing, marked, samples

from curation.diagnosis.stopping import EarlyStopping, balanced, least_kept


def shifted(stop: EarlyStopping, classifier: object, bias: float, step: int) -> bool:
    """Check the classifier with its answer moved towards `dark` by `bias`."""
    module = classifier.module  # type: ignore[attr-defined]
    with torch.no_grad():
        module[1].bias.copy_(torch.tensor([bias, 0.0]))
    return stop(step)


def test_weights_that_forget_a_class_are_never_the_best() -> None:
    classifier, given = failing(), samples()
    stop = EarlyStopping(
        classifier, given.failures["validation"], given.right["validation"], least=0.9, each=True, patience=3
    )
    assert not stop(0)
    assert stop.best is not None and stop.best[0].fixed == 0 and stop.best[0].kept == 1
    assert not shifted(stop, classifier, 100.0, 5)  # calls everything dark: fixes all failures, forgets `bright`
    assert stop.checks[-1].fixed == 1 and stop.checks[-1].kept == 0
    assert not shifted(stop, classifier, 100.0, 10) and shifted(stop, classifier, 100.0, 15)  # patience is over
    assert stop.restore().step == 0
    assert not classifier.right(given.failures["validation"]).any()
    assert stop.judged == 4 * (20 + 40)


def test_tuning_ends_where_all_validation_failures_are_right() -> None:
    classifier, given = failing(), samples()
    stop = EarlyStopping(classifier, given.right["query"], given.right["validation"], least=0.9)
    assert stop(0)


def test_the_least_share_is_of_the_worst_class() -> None:
    pictures = marked(10, [0, 0, 0, 0, 1], [0], mark=False, seed=0)
    right = torch.ones(10, dtype=torch.bool)
    right[4] = False
    assert least_kept(right, pictures) == 0.5 and least_kept(right[:0], pictures.take([])) == 1


def test_without_each_the_share_is_of_all() -> None:
    classifier, given = failing(), samples()
    stop = EarlyStopping(classifier, given.failures["validation"], given.right["validation"], least=0.4)
    assert shifted(stop, classifier, 100.0, 0)  # half is kept: enough
    assert stop.checks[-1].kept == 0.5


def test_the_average_is_judged_and_the_tuned_weights_stay() -> None:
    classifier, given = failing(), samples()
    stop = EarlyStopping(classifier, given.failures["validation"], given.right["validation"], least=0.0, average=0.75)
    start = classifier.weights()
    with torch.no_grad():
        classifier.module[1].bias.add_(4.0)  # type: ignore[index]
    stop.follow()
    stop(5)
    assert torch.equal(classifier.weights()["1.bias"], start["1.bias"] + 4)
    stop.restore()
    torch.testing.assert_close(classifier.weights()["1.bias"], start["1.bias"] + 1)


def test_a_balanced_draw_has_as_many_of_each_class_as_there_are() -> None:
    pictures = marked(50, [0, 0, 0, 0, 1], [0], mark=False, seed=0)
    some = balanced(pictures, 30)
    assert torch.bincount(some.targets).tolist() == [20, 10] and list(some.uids) == sorted(some.uids)
    assert torch.bincount(balanced(pictures, 12).targets).tolist() == [6, 6]
