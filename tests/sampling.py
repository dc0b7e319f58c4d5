"""A part of many similar cases: a few for `make test-fast`, some for `make test`, all for `make soak`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def one_in(n: int, values: Iterable[Any], *, tested: int = 1) -> list[Any]:
    """Values for `parametrize`: the first of every n as it is, the others marked `slow`.

    tested: of the others, the first of every `tested` is `slow`, and the rest are `soak`.
    """
    found = []
    for place, value in enumerate(values):
        marks = () if place % n == 0 else pytest.mark.slow if place % tested == 0 else pytest.mark.soak
        found.append(pytest.param(value, marks=marks))
    return found
