"""A part of many similar cases for `make test-fast`; `make test` runs them all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def one_in(n: int, values: Iterable[Any]) -> list[Any]:
    """Values for `parametrize`: the first of every n as it is, the others marked `slow`."""
    return [value if i % n == 0 else pytest.param(value, marks=pytest.mark.slow) for i, value in enumerate(values)]
