"""Fine-tuning: the same weights each time, batches of every source, and weights that stay where nothing is tuned."""

from __future__ import annotations

from functools import partial

import torch
from marked_pictures import untrained
from torch.nn.functional import cross_entropy

from curation.diagnosis.pictures import LabelledPictures
from curation.diagnosis.tuning import Step, TunedClassifier, batches, right_by_class, tune


def pictures(count: int, seed: int = 0) -> LabelledPictures:
    """Dark pictures are of class 0, bright ones of class 1."""
    targets = torch.arange(count) % 2
    noise = torch.randint(0, 60, (count, 4, 4, 3), generator=torch.Generator().manual_seed(seed))
    return LabelledPictures(
        [f"{row:03}" for row in range(count)], (noise + 150 * targets[:, None, None, None]).byte(), targets
    )


def loss_of(tuned: TunedClassifier, step: Step) -> torch.Tensor:
    return torch.stack([cross_entropy(tuned.logits(pixels), targets) for pixels, targets in step]).mean()


def test_tuning_learns_repeats_and_stops() -> None:
    samples, found, seen = pictures(40), [], list[int]()
    for stop in (None, lambda done: bool(seen.append(done)) or done >= 20):
        tuned = untrained()
        before = tuned.right(samples).float().mean()
        done = tune(tuned, batches([samples], [8], 3), partial(loss_of, tuned), lr=1e-2, most=60, stop=stop)
        found.append(tuned.weights())
        assert done == (60 if stop is None else 20)
        if stop is None:
            assert before == 0.5 and tuned.right(samples).all()
            assert not any(tensor.requires_grad or tensor.grad is not None for tensor in tuned.module.parameters())
    assert seen == [0, 10, 20]
    again = untrained()
    tune(again, batches([samples], [8], 3), partial(loss_of, again), lr=1e-2, most=20)
    assert all(torch.equal(found[1][name], tensor) for name, tensor in again.weights().items())
    assert not torch.equal(found[0]["1.weight"], found[1]["1.weight"])


def test_batches_are_permutations_of_each_source() -> None:
    many, few, none = pictures(10), pictures(3), pictures(0)
    steps = batches([many, few, none], [5, 8, 4], 0)
    first, second = next(steps), next(steps)
    assert [len(targets) for _, targets in first] == [5, 3, 0]
    drawn = torch.cat([first[0][0], second[0][0]]).flatten(1)
    assert sorted(map(tuple, drawn.tolist())) == sorted(map(tuple, many.pixels.flatten(1).tolist()))


def test_shares_of_classes_have_intervals_and_absent_classes_none() -> None:
    samples = pictures(10)
    shares = right_by_class(torch.tensor([True] * 9 + [False]), samples, ["dark", "bright", "none"])
    assert list(shares) == ["dark", "bright"]
    assert (shares["dark"].rate, shares["bright"].rate) == (1, 0.8) and shares["bright"].low < 0.8 < shares[
        "bright"
    ].high


def test_pictures_are_taken_and_joined_by_row() -> None:
    samples = pictures(6)
    both = samples.take([4, 1]).join(samples.take([0]))
    assert both.uids == ["004", "001", "000"] and both.targets.tolist() == [0, 1, 0]
    assert torch.equal(both.pixels, samples.pixels[[4, 1, 0]])
