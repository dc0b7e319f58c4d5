"""Fine-tune a trained classifier for a few steps, and judge it: what types, repair and erase have in common.

A run is a pure function of the weights, the samples and the seed: batches follow from a seed, on one device and number
of threads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from curation.core.intervals import HitRate, wilson
from curation.diagnosis.pictures import LabelledPictures, Rows, labelled_pictures
from curation.diagnosis.subject import Subject, SubjectScores
from curation.models.architecture import preprocess_for
from curation.models.towers import PixelNormaliser
from curation.models.trained_classifier import load_classifier
from curation.storage.store import Store, StoreOptions

JUDGED = 256  # pictures in one forward pass

#: Pixels `[B, S, S, 3]` and targets `[B]` of one step, one pair for each source of samples.
Step = Sequence[tuple[Tensor, Tensor]]


@dataclass
class TunedClassifier:
    """A classifier that can be tuned: its module, in evaluation mode, and the conversion of its pixels."""

    module: nn.Module
    normalise: PixelNormaliser

    @classmethod
    def of(
        cls, subject: Subject, device: torch.device | str = "cpu", options: StoreOptions | None = None
    ) -> TunedClassifier:
        """Return the subject with its own weights."""
        module, _ = load_classifier(subject.model, subject.weights, device, options)
        return cls(module, PixelNormaliser(preprocess_for(subject.model)).to(device))

    def logits(self, pixels: Tensor) -> Tensor:
        """Return logits, float32 `[N, K]`, for uint8 pixels `[N, S, S, 3]`, with gradients where they are enabled."""
        device = next(self.module.parameters()).device
        found: Tensor = self.module(self.normalise(pixels.to(device))).float()
        return found

    @torch.no_grad()
    def guesses(self, pictures: LabelledPictures) -> Tensor:
        """Return the most probable class of each picture, int64 `[N]`, on the CPU."""
        parts = [self.logits(some).argmax(1).cpu() for some in torch.split(pictures.pixels, JUDGED) if len(some)]
        return torch.cat([torch.zeros(0, dtype=torch.int64), *parts])

    def right(self, pictures: LabelledPictures) -> Tensor:
        """Return which pictures are classified as their targets, bool `[N]`."""
        return self.guesses(pictures) == pictures.targets

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of all tensors, on the CPU."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.module.state_dict().items()}


def still_wrong(
    classifier: TunedClassifier, subject: Subject, rows: Rows, scored: SubjectScores, store: Store
) -> tuple[LabelledPictures, Counter[str]]:
    """Read failures, and keep those that the model is still wrong about; also count the others, by reason.

    store: where the failures are. Cost: a ranged read, a decode and a forward pass a sample.
    """
    pictures, left_out = labelled_pictures(subject, rows, scored, store)
    wrong = torch.nonzero(~classifier.right(pictures))[:, 0]
    left_out["right"] += len(pictures) - len(wrong)
    return pictures.take(wrong), left_out


def right_by_class(right: Tensor, pictures: LabelledPictures, classes: Sequence[str]) -> Mapping[str, HitRate]:
    """Return the share of right pictures with its 95 % interval, for each class that the pictures have."""
    found = {}
    for number, name in enumerate(classes):
        own = right[pictures.targets == number]
        if len(own):
            found[name] = wilson(int(own.sum()), len(own), 1 / len(classes))
    return found


def batches(sources: Sequence[LabelledPictures], sizes: Sequence[int], seed: int) -> Iterator[Step]:
    """Yield steps without end: `sizes[k]` samples of source k, each source in seeded permutations.

    A source with fewer samples than its size gives all of them in every step, and an empty one gives none.
    """
    pairs = enumerate(zip(sources, sizes, strict=True))
    draws = [_draws(len(source), size, seed + number) for number, (source, size) in pairs]
    while True:
        rows = [next(draw) for draw in draws]
        yield [(source.pixels[some], source.targets[some]) for source, some in zip(sources, rows, strict=True)]


def _draws(count: int, size: int, seed: int) -> Iterator[Tensor]:
    generator, left = np.random.default_rng(seed), np.zeros(0, np.int64)
    while True:
        if len(left) < min(size, count):
            left = np.concatenate([left, generator.permutation(count)])
        some, left = left[: min(size, count)], left[min(size, count) :]
        yield torch.from_numpy(some)


def tune(
    classifier: TunedClassifier, steps: Iterator[Step], objective: Callable[[Step], Tensor], *, lr: float, most: int,
    stop: Callable[[int], bool] | None = None, every: int = 10, after_step: Callable[[], None] = lambda: None,
) -> int:  # fmt: skip
    """Take up to `most` steps of Adam on all weights, in place; returns the number of steps taken.

    objective: a step's scalar loss. lr: the step size. stop: called before the first step and after every `every` steps
    with their number; true ends the tuning. after_step: called after every step. The module stays in evaluation mode:
    dropout and batch statistics are off.
    """
    weights = [tensor.requires_grad_(True) for tensor in classifier.module.parameters()]
    optimiser, done = torch.optim.Adam(weights, lr=lr), 0
    try:
        while done < most and not (stop is not None and done % every == 0 and stop(done)):
            loss = objective(next(steps))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            after_step()
            done += 1
    finally:
        for tensor in weights:
            tensor.requires_grad_(False)
            tensor.grad = None
    return done
