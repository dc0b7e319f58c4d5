"""Dark and bright pictures of 4 pixels, a linear classifier of them, and a planted failure for tests of a repair."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from curation.diagnosis.pictures import LabelledPictures
from curation.diagnosis.repair_samples import RepairSamples
from curation.diagnosis.tuning import TunedClassifier, batches, tune
from curation.models.towers import PixelNormaliser
from curation.shards.images import Preprocess

CLASSES = ["dark", "bright"]


def marked(count: int, targets: list[int], shown: list[int], *, mark: bool, seed: int) -> LabelledPictures:
    """Return pictures that look like the classes `shown` and are labelled `targets`, both repeated in turn.

    mark: whether the first row of pixels is white.
    """
    looks = torch.tensor(shown).repeat(count)[:count]
    noise = torch.randint(0, 90, (count, 4, 4, 3), generator=torch.Generator().manual_seed(seed))
    pixels = (noise + 110 * looks[:, None, None, None]).byte()
    if mark:
        pixels[:, 0] = 255
    labels = torch.tensor(targets).repeat(count)[:count]
    return LabelledPictures([f"{seed:03}-{row:03}" for row in range(count)], pixels, labels)


def untrained(classes: int = 2) -> TunedClassifier:
    """Return a linear classifier whose weights are 0."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, classes)).eval().requires_grad_(False)
    for tensor in module.parameters():
        tensor.zero_()
    return TunedClassifier(module, PixelNormaliser(Preprocess(size=4, mean=(0.5,) * 3, std=(0.25,) * 3)))


def causes() -> LabelledPictures:
    """Return the planted training samples: dark pictures with a mark, labelled bright."""
    return marked(30, [1], [0], mark=True, seed=1)


def failing() -> TunedClassifier:
    """Return a classifier trained on plain pictures and the planted ones: it calls marked dark pictures bright."""
    classifier = untrained()
    classifier.module.load_state_dict(_trained())
    return classifier


@cache
def _trained() -> dict[str, torch.Tensor]:
    classifier = untrained()
    data = marked(120, [0, 1], [0, 1], mark=False, seed=0).join(causes())
    steps = batches([data], [32], 0)
    tune(classifier, steps, lambda step: cross_entropy(classifier.logits(step[0][0]), step[0][1]), lr=1e-2, most=300)
    return classifier.weights()


def samples() -> RepairSamples:
    """Return fresh marked dark pictures as failures, and plain ones as what was right."""
    parts = ("query", "validation", "held_out")
    return RepairSamples(
        {part: marked(20, [0], [0], mark=True, seed=10 + place) for place, part in enumerate(parts)},
        {part: marked(40, [0, 1], [0, 1], mark=False, seed=20 + place) for place, part in enumerate(parts)},
        {},
    )
