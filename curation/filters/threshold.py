"""Samples whose score is outside an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

MAX_LIMIT = 3.4e38  # about the largest float32


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Keep the samples with min <= score <= max; a limit that is not given does not apply.

    When to use: the score has a scale that you trust. Otherwise `top_fraction` is safer, because it keeps the same
    share whatever the model's calibration.
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
            if limit is not None and not abs(limit) <= MAX_LIMIT:
                limits = f"from {-MAX_LIMIT} to {MAX_LIMIT}; omit it for no limit"
                raise ValueError(f"{name} is {limit}, but must be {limits}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max}): no sample would be kept")

    def columns(self) -> Sequence[str]:
        return (self.score,)

    def limits(self) -> Sequence[float]:
        return [limit for limit in (self.min, self.max) if limit is not None]

    def drops(self) -> str:
        rules = [f'"{self.score}" < {self._limit(self.min)}' if self.min is not None else None]
        rules += [f'"{self.score}" > {self._limit(self.max)}' if self.max is not None else None]
        return f"SELECT id, '{self.score}' AS detail FROM alive WHERE {' OR '.join(rule for rule in rules if rule)}"

    def _limit(self, value: float) -> str:
        """SQL of a limit as a double, rounded to float32 first for a float32 column.

        So a limit copied from the manifest keeps the sample it was copied from. Integers beyond 2^53 are rounded.
        """
        return f"CASE typeof(\"{self.score}\") WHEN 'FLOAT' THEN {value!r}::FLOAT::DOUBLE ELSE {value!r}::DOUBLE END"
