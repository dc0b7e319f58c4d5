"""Ranges of settings: both ends belong to them, numbers that are none do not."""

from __future__ import annotations

import pytest

from curation.core.ranges import MOST, check, check_count, check_seed


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_both_ends_are_inside(value: float) -> None:
    check("share", value, "a share", least=0, most=1)


@pytest.mark.parametrize("value", [-1e-9, 1.000001, float("nan"), float("inf"), -float("inf")])
def test_a_value_outside_is_one_line_with_the_range(value: float) -> None:
    with pytest.raises(ValueError, match=r"^share is .* from 0 to 1; a share of the run$"):
        check("share", value, "a share of the run", least=0, most=1)


@pytest.mark.parametrize(("value", "limit"), [(0, "at least 1"), (MOST + 1, "at most 9,223,372,036,854,775,807")])
def test_counts_fit_into_64_bits(value: int, limit: str) -> None:
    for fine in (None, 1, MOST):
        check_count("samples", fine, "a number of samples", least=1)
    with pytest.raises(ValueError, match=f"samples is {value}, .* {limit}"):
        check_count("samples", value, "a number of samples", least=1)


def test_seeds_leave_room_for_the_roles_of_a_run() -> None:
    """Torch takes 64 bits, and a role adds 1 or 2."""
    import torch

    for seed in (-(1 << 62), 1 << 62):
        check_seed(seed)
        torch.Generator().manual_seed(seed + 2)
    with pytest.raises(ValueError, match="seed is"):
        check_seed((1 << 62) + 1)
