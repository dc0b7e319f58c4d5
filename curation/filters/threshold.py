"""Samples whose score lies outside an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

LARGEST = 3.4e38  # float32, but for its last digits


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Keep min <= score <= max; an end that is not given is open. Use it when the score has a scale you trust.

    Otherwise `top_fraction` is safer: it keeps the same share whatever the model's calibration.
    Cost: 0.03 us of CPU a sample.
    Example: threshold: {score: nsfw, max: 0.2}
    """

    code: ClassVar[int] = 2

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
        rules = [f'"{self.score}" < {self._limit(self.min)}' if self.min is not None else None]
        rules += [f'"{self.score}" > {self._limit(self.max)}' if self.max is not None else None]
        return f"SELECT id, '{self.score}' AS detail FROM alive WHERE {' OR '.join(rule for rule in rules if rule)}"

    def _limit(self, value: float) -> str:
        """SQL of a limit. Of a float32 it is the nearest float32: so one that was read off the manifest means what it
        says. Of whole numbers it is what it is, as a double: beyond 2^53 to its precision."""
        return f"CASE typeof(\"{self.score}\") WHEN 'FLOAT' THEN {value!r}::FLOAT::DOUBLE ELSE {value!r}::DOUBLE END"
