"""What cleaned labels are worth: a learner trained on them, and six models that are judged by them.

All have a tower of patches, fitted to all pictures without labels, whose features are computed once for all seeds. The
learner is a network over them, trained until it fits its labels, as networks are: it learns wrong labels, too. The six
models, and a second learner, have the ridge head of `proxy-patches`, which averages most of the noise away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench.labels.cifar10h import CLASSES, Draw
from bench.labels.noisy import Array, Pictures, drawn
from torch import nn

from curation.evaluation.model_order import model_order
from curation.models.patch_config import PatchConfig
from curation.models.patch_tower import fit_tower
from curation.models.ridge_head import ridge_head
from curation.models.towers import PixelNormaliser

#: Features and labels to train on, features to judge: to the most likely class of each of these.
Guesses = Callable[[torch.Tensor, Array, torch.Tensor], Array]

PATTERNS = (400, 200, 100)  # the sizes of towers; the first is that of `proxy-patches` and of the learner
TEMPERATURE = 10  # of the noisy labels that three of six models are trained on: 30 % wrong
HIDDEN, EPOCHS, BATCH, RATE = 128, 40, 128, 2e-3  # of the learner; chosen on seeds 10 to 12
ORDERS = 3  # random orders of the same budget, whose accuracies are averaged


def write_features(pictures: Pictures, folder: Path) -> None:
    """Write the features of all pictures, one file a size: float32 [N, D]."""
    for number in PATTERNS:
        config = PatchConfig(patterns=number)
        pixels = pictures.pixels(config.size)
        tower, normalise = fit_tower(config, pixels, 0), PixelNormaliser(config.preprocess)
        with torch.inference_mode():
            parts = [tower(normalise(part)) for part in torch.split(torch.from_numpy(pixels), 1000)]
        np.save(folder / f"features-{number}.npy", torch.cat(parts).numpy())


def read_features(folder: Path, patterns: int, rows: Array) -> torch.Tensor:
    """Return the features of some pictures, float32 [n, D]."""
    return torch.from_numpy(np.load(folder / f"features-{patterns}.npy", mmap_mode="r")[rows])


def guesses(train: torch.Tensor, labels: Array, test: torch.Tensor) -> Array:
    """Return the most likely classes of `test` by a head fitted to `train` and its labels, int64 [n]."""
    head = ridge_head(train, torch.from_numpy(labels), len(CLASSES))
    found: Array = (test @ head.weight.T + head.bias).argmax(dim=1).numpy()
    return found


def network_guesses(train: torch.Tensor, labels: Array, test: torch.Tensor) -> Array:
    """Return the most likely classes of `test` by a network of one hidden layer, int64 [n]: `EPOCHS` of AdamW.

    It ends with about 98 % of its own labels right, however many of them are wrong.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(train.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, len(CLASSES)))
    mean, std = train.mean(0), train.std(0) + 1e-6
    inputs, targets = (train - mean) / std, torch.from_numpy(labels).long()
    optimiser, generator = torch.optim.AdamW(net.parameters(), lr=RATE), torch.Generator().manual_seed(0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS * math.ceil(len(inputs) / BATCH))
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(inputs), generator=generator).split(BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(inputs[rows]), targets[rows]).backward()
            optimiser.step()
            schedule.step()
    with torch.inference_mode():
        found: Array = net((test - mean) / std).argmax(dim=1).numpy()
    return found


def learner(
    draw: Draw, truth: Array, cleaned: Mapping[str, Array], folder: Path, guess: Guesses = network_guesses
) -> dict[str, float]:
    """Return the accuracy of a learner on the pictures outside of the draw, by the labels that it was trained on.

    truth: of the whole file. cleaned: the labels after equal budgets: `active`, and `random 0`, `random 1`, ...
    """
    train, test = (read_features(folder, PATTERNS[0], rows) for rows in (draw.rows, draw.others))

    def accuracy(labels: Array) -> float:
        return float((guess(train, labels, test) == truth[draw.others]).mean())

    orders = [name for name in cleaned if name.startswith("random")][:ORDERS]
    return {
        "noisy": accuracy(draw.data.labels),
        "random": float(np.mean([accuracy(cleaned[name]) for name in orders])),
        "active": accuracy(cleaned["active"]),
        "true": accuracy(draw.data.truth),
    }


def six_models(draw: Draw, pictures: Pictures, cleaned: Mapping[str, Array], folder: Path, seed: int) -> dict[str, Any]:
    """Train six models on the other pictures, and judge them by noisy, cleaned and true labels of the draw.

    Three sizes, each trained on all pictures with noisy labels, and on half of them with true ones. cleaned: labels by
    name. Returns the document of `evaluation.model_order`.
    """
    random = np.random.default_rng([seed, 7])
    votes, truth = pictures.votes[draw.others], pictures.truth[draw.others]
    half = np.sort(random.permutation(len(truth))[: len(truth) // 2])
    everything = np.arange(len(truth))
    trained = {"noisy": (everything, drawn(votes ** (1 / TEMPERATURE), random)), "true": (half, truth)}
    judged: dict[str, list[int]] = {}
    for patterns in PATTERNS:
        train, test = (read_features(folder, patterns, rows) for rows in (draw.others, draw.rows))
        for name, (rows, labels) in trained.items():
            found = guesses(train[torch.from_numpy(rows)], labels[rows], test)
            judged[f"{patterns} patterns, {len(rows):,} {name} labels"] = found.tolist()
    labellings = {"noisy": draw.data.labels, **cleaned, "true": draw.data.truth}
    return model_order(judged, {name: labels.tolist() for name, labels in labellings.items()}, len(CLASSES))
