"""A named vector drawing, as every pack yields it, and the seeded choices that determine how it is rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One drawing with one name in one language: becomes one sample. `svg` is the SVG text or a file with it."""

    key: str  # the sample's key, unique in the corpus
    kind: str  # emoji | icon | logo: which captions fit
    pack: str
    name: str
    svg: str | Path
    licence: str  # SPDX expression
    origin: str  # where the drawing comes from: a file in the package, or the brand's own page
    language: str = "en"
    keywords: tuple[str, ...] = ()
    style: str = ""  # "thin", "filled", ...: distinguishes drawings of the same name
    category: str = ""
    brand: str = ""  # a logo's own colour, #rrggbb


class SeededChoices:
    """Random choices as a pure function of (seed, key, question): equal on every machine, in any order."""

    def __init__(self, seed: int, key: str) -> None:
        self._prefix = f"{seed}|{key}|"

    def roll(self, question: str) -> float:
        """Return a number drawn uniformly from [0, 1)."""
        return int.from_bytes(sha256((self._prefix + question).encode()).digest()[:6]) / (1 << 48)

    def pick(self, question: str, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
        """Return one of the options, drawn in proportion to the weights."""
        weights = weights or [1.0] * len(options)
        left = self.roll(question) * sum(weights)
        for option, weight in zip(options, weights, strict=True):
            left -= weight
            if left < 0:
                return option
        return options[-1]


def order(seed: int, drawing: Drawing) -> bytes:
    """Return the sort key of a drawing. Sorted by it, every shard is a mix of all packs."""
    return sha256(f"{seed}|{drawing.key}".encode()).digest()
