"""Range checks of numeric settings, with one form of error.

A dataclass checks its settings on construction, in Python and from a recipe alike, even those that would have no
effect: a negative gain reverses a selection, and a negative number of words never drops anything.
"""

from __future__ import annotations

from math import inf

MOST = (1 << 63) - 1  # the largest count: SQL stores counts in 64 bits
LARGEST_FLOAT = 1e38  # learners compute in float32, whose maximum is 3.4e38
_SEED = 1 << 62  # torch accepts 64 bits, and the roles of a run add 1 and 2 to the seed


def check(name: str, value: float, why: str, *, least: float = -inf, most: float = inf) -> None:
    """Raise `ValueError` for NaN and for a value outside `least` to `most`, both inclusive.

    `why` ends the message: what the setting is, or what another value would do.
    """
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}, but must be from {_short(least)} to {_short(most)}; {why}")


def check_count(name: str, value: int | None, why: str, *, least: int = 0) -> None:
    """Raise `ValueError` for a count below `least` or beyond 64 bits. None means that the setting is absent."""
    if value is not None and not least <= value <= MOST:
        limit = f"at most {MOST:,}" if value > MOST else f"at least {least:,}"
        raise ValueError(f"{name} is {value}, but must be {limit}; {why}")


def check_seed(seed: int) -> None:
    """Raise `ValueError` for a seed that random number generators don't accept."""
    check("seed", seed, "it seeds the random number generators", least=-_SEED, most=_SEED)


def _short(value: float) -> str:
    if abs(value) >= 1e12:
        return f"{value:.3g}"
    return f"{int(value):,}" if value == int(value) else f"{value:,}"
