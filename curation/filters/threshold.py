"""Samples whose score lies outside an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LARGEST = 3.4e38  # float32, but for its last digits


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Keep min <= score <= max; an end that is not given is open. Use it when the score has a scale you trust.

    Otherwise `top_fraction` is safer: it keeps the same share whatever the model's calibration.
    Cost: 0.03 us of CPU a sample.
    Example: threshold: {score: nsfw, max: 0.2}
    """

    score: str
    min: float | None = None
    max: float | None = None

    def __post_init__(self) -> None:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        for name, limit in (("min", self.min), ("max", self.max)):
            if limit is not None and not abs(limit) <= LARGEST:
                raise ValueError(
                    f"{name} is {limit}: scores are from {-LARGEST} to {LARGEST}; leave out a limit that is none"
                )
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min, {self.min}, is above max, {self.max}: no sample would stay")

    def columns(self) -> Sequence[str]:
        return (self.score,)

    def limits(self) -> Sequence[float]:
        return [limit for limit in (self.min, self.max) if limit is not None]

    def drops(self) -> str:
        # The score is float32: comparing as float32 makes a threshold read off the manifest mean what it says.
        rules = [f'"{self.score}" < {self.min!r}::FLOAT' if self.min is not None else None]
        rules += [f'"{self.score}" > {self.max!r}::FLOAT' if self.max is not None else None]
        return f"SELECT id, '{self.score}' AS detail FROM alive WHERE {' OR '.join(rule for rule in rules if rule)}"
