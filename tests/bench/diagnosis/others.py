"""The trace part in other pictures, so that a method is not fitted to X-rays: one planted cause in each world.

CIFAR pictures of animals and vehicles, with marked vehicles called animals, and icons of several packs, with marked
icons of the largest pack given to the second largest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bench.diagnosis import trace
from bench.diagnosis.planted import plant

OTHERS = {"cifar": "CIFAR pictures", "icons": "icons"}


def measure(seed: int) -> dict[str, float]:
    """Return the figures of a seed in both worlds, by `world|cause|ranking|weights|figure`."""
    found = {}
    for world in OTHERS:
        some = trace.figures(plant(seed, world), peers=False)
        found |= {f"{world}|{key}": value for key, value in some.items()}
    return found


def lines(found: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the lines of the page: the bars and the table of each world."""
    return [line for world in OTHERS for line in _world(world, found)]


def _world(world: str, found: Sequence[Mapping[str, float]]) -> Iterator[str]:
    own = [
        {key.removeprefix(f"{world}|"): value for key, value in one.items() if key.startswith(f"{world}|")}
        for one in found
    ]
    yield f"**{OTHERS[world]}**"
    yield ""
    yield from trace.lines(own)
