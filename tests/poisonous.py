"""`python -m poisonous run ...`: the `curate` command with scorers that misbehave on marked captions.

Ray's workers import this module where the driver sends them one of its classes, so it has to be on PYTHONPATH.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.scorers import SCORERS, Batch
from curation.scorers.scorer import CaptionNumberScorer
from curation.shards.images import Preprocess


@dataclass(frozen=True, kw_only=True)
class SlowWords(CaptionNumberScorer):
    """Counts letters, a third of a second a batch."""

    def identity(self) -> Mapping[str, Any]:
        return {"scorer": "slow_words"}

    def imports(self) -> Sequence[str]:
        return ()  # each process that takes the place of a dead one would import torch

    def load(self, device: Any, options: Any) -> Callable[[Batch], np.ndarray]:
        def score(batch: Batch) -> np.ndarray:
            time.sleep(0.3)
            return np.array([len(caption) for caption in batch.captions], np.float32)

        return score


def _hang() -> None:
    ctypes.PyDLL(None).usleep(600_000_000)  # holds the GIL: no Python thread can end this


DEEDS: dict[str, Callable[[], Any]] = {
    "exit": lambda: os._exit(3),
    "leave": lambda: sys.exit(3),
    "crash": lambda: ctypes.string_at(0),
    "hang": _hang,
    "raise": lambda: 1 / 0,
}


def patch_decoder() -> None:
    """Have this process die of images that end with `poison: decode`."""
    from curation.shards import unit_reader as units

    inspect = units.inspect

    def inspected(data: bytes, *arguments: Any) -> Any:
        if data.endswith(b"poison: decode"):
            os._exit(4)
        return inspect(data, *arguments)

    units.inspect = inspected  # type: ignore[assignment]


def deadly_view(size: int) -> Preprocess:
    patch_decoder()
    return Preprocess(size=size, mean=(0, 0, 0), std=(1, 1, 1))


class DeadlyView(Preprocess):
    """A view that patches the decoder of each process that receives it, so also of those that decode ahead."""

    def __reduce__(self) -> tuple[Any, ...]:
        return deadly_view, (self.size,)


@dataclass(frozen=True, kw_only=True)
class Poisonous(CaptionNumberScorer):
    """Counts letters; a caption `poison: DEED` makes it do one of `DEEDS`, and the decoder dies of images that end so.

    `fails`: it raises for every caption.
    """

    fails: bool = False

    def identity(self) -> Mapping[str, Any]:
        return {"scorer": "poisonous"}

    def imports(self) -> Sequence[str]:
        return ()  # each process that takes the place of a dead one would import torch

    def views(self) -> Sequence[Preprocess]:
        return (DeadlyView(size=8, mean=(0, 0, 0), std=(1, 1, 1)),)

    def load(self, device: Any, options: Any) -> Callable[[Batch], np.ndarray]:
        patch_decoder()

        def score(batch: Batch) -> np.ndarray:
            if self.fails and any(batch.captions):
                raise ValueError("no weights for these")
            for caption in batch.captions:
                if caption.startswith("poison: "):
                    DEEDS[caption.removeprefix("poison: ")]()
            return np.array([len(caption) for caption in batch.captions], np.float32)

        return score


SCORERS["slow_words"] = SlowWords
SCORERS["poisonous"] = Poisonous

if __name__ == "__main__":
    from jobs.cli import main

    main()
