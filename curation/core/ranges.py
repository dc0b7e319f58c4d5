"""Ranges of numeric settings: one way to check them, and one form of the error.

A setting outside its range is refused where its dataclass is made, in Python and in a recipe alike, whether or not it
would have an effect: a negative gain turns a selection around, a negative number of words never drops anything.
"""

from __future__ import annotations

from math import inf

MOST = (1 << 63) - 1  # of counts, which SQL holds in 64 bits
LARGEST_FLOAT = 1e38  # float32, in which learners compute, ends at 3.4e38
_SEED = 1 << 62  # torch takes 64 bits, and roles of a run add 1 and 2


def check(name: str, value: float, why: str, *, least: float = -inf, most: float = inf) -> None:
    """Raises `ValueError` for a value that is not from `least` to `most`, ends included, or is no number. `why`: what
    the setting is, or what another value would do."""
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}: it is from {_short(least)} to {_short(most)}; {why}")


def check_count(name: str, value: int | None, why: str, *, least: int = 0) -> None:
    """Raises `ValueError` for a number of things below `least`, or beyond 64 bits. None is no setting."""
    if value is not None and not least <= value <= MOST:
        limit = f"at most {MOST:,}" if value > MOST else f"at least {least:,}"
        raise ValueError(f"{name} is {value}: it is {limit}; {why}")


def check_seed(seed: int) -> None:
    """Raises `ValueError` for a seed that generators of random numbers don't take."""
    check("seed", seed, "it seeds a generator of random numbers", least=-_SEED, most=_SEED)


def _short(value: float) -> str:
    if abs(value) >= 1e12:
        return f"{value:.3g}"
    return f"{int(value):,}" if value == int(value) else f"{value:,}"
