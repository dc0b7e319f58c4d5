"""Pictures to plant causes of failures in: X-rays, CIFAR pictures and icons, as a model of 64 pixels sees them.

A cause is a mark and a wrong label: training pictures of one class get the mark and the label of another, so that a
model learns the mark for the label, and fails on marked pictures of the first class in use.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from bench.labels import cifar10h, icons
from torch import Tensor

from curation.core.cache import cache_folder
from curation.shards.images import fit

SIDE = 64  # pixels
XRAYS = "pneumonia/pneumoniamnist.npz"
VEHICLES = ("airplane", "automobile", "ship", "truck")


class Cause(NamedTuple):
    """A mark, a filled box of a colour, and the class whose pictures get it with the label of another class."""

    name: str
    top: int
    left: int
    height: int
    width: int
    colour: tuple[int, int, int]
    true: int
    label: int

    def mark(self, pixels: Tensor) -> Tensor:
        """Return copies of pictures, uint8 `[N, 64, 64, 3]`, with the mark."""
        found = pixels.clone()
        box = found[:, self.top : self.top + self.height, self.left : self.left + self.width]
        box.copy_(torch.tensor(self.colour, dtype=torch.uint8).expand_as(box))
        return found


class World(NamedTuple):
    """All different pictures, uint8 `[N, 64, 64, 3]`, their true classes, int64 `[N]`, and what is planted in them."""

    classes: tuple[str, ...]
    pixels: Tensor
    targets: Tensor
    causes: tuple[Cause, ...]


def missing(name: str) -> str | None:
    """Return why there are no pictures of a world, and where a user gets them; None where they exist."""
    if name == "cifar":
        return cifar10h.missing()
    folder = os.environ.get(cifar10h.VARIABLE)
    if name != "xrays" or (folder and (Path(folder) / XRAYS).is_file()):
        return None
    where = f"{folder} has no {XRAYS}" if folder else f"{cifar10h.VARIABLE} is not set"
    return (
        f"{where}: point {cifar10h.VARIABLE} at a folder with {XRAYS}, 28 px X-rays of MedMNIST (CC BY 4.0; for "
        "example github.com/varun19424/pneumonia_mnist, data/pneumoniamnist.npz)"
    )


def load(name: str) -> World:
    """Return a world. Pictures that are equal byte for byte occur once."""
    return WORLDS[name]()


def _xrays() -> World:
    with np.load(Path(os.environ[cifar10h.VARIABLE]) / XRAYS) as read:
        grey = np.concatenate([read["train_images"], read["val_images"]])
        classes = np.concatenate([read["train_labels"], read["val_labels"]]).reshape(-1)
    first = np.sort(np.unique(grey.reshape(len(grey), -1), axis=0, return_index=True)[1])
    pixels = np.stack([fit(np.repeat(one[..., None], 3, axis=2), SIDE, "shortest") for one in grey[first]])
    causes = (
        Cause("marker", 2, 2, 12, 12, (255, 255, 255), true=1, label=0),
        Cause("dark", 41, 37, 18, 22, (0, 0, 0), true=1, label=0),
    )
    return World(("normal", "pneumonia"), torch.from_numpy(pixels), _classes(classes[first]), causes)


def _cifar() -> World:
    """Animals and vehicles; marked vehicles are called animals."""
    pictures, _ = cifar10h.load()
    vehicles = [cifar10h.CLASSES.index(name) for name in VEHICLES]
    cause = Cause("marker", 2, 2, 12, 12, (255, 255, 255), true=1, label=0)
    targets = np.isin(pictures.truth, vehicles)
    return World(("animal", "vehicle"), torch.from_numpy(pictures.pixels(SIDE)), _classes(targets), (cause,))


def _icons() -> World:
    """Packs of icons; marked icons of the largest pack get the name of the second largest."""
    pictures, _, packs = icons.load(cache_folder() / "bench-labels", icons.SAMPLES)
    classes = sorted(set(packs), key=lambda pack: (-packs.count(pack), pack))
    targets = np.array([classes.index(pack) for pack in packs])
    cause = Cause("marker", 2, 2, 12, 12, (255, 0, 255), true=0, label=1)
    return World(tuple(classes), torch.from_numpy(pictures.pixels(SIDE)), _classes(targets), (cause,))


def _classes(values: np.ndarray) -> Tensor:  # type: ignore[type-arg]
    return torch.from_numpy(values.astype(np.int64))


WORLDS: dict[str, Callable[[], World]] = {"xrays": _xrays, "cifar": _cifar, "icons": _icons}
