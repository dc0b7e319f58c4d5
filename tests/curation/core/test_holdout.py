"""The held-out share: groups by name or content, and a hash that decides the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from curation.core.holdout import content_of, group_of, group_of_name, is_held_out


def test_names_are_grouped_without_case_and_punctuation() -> None:
    names = ("red-apple", "Red Apple", " red_apple!", "RED  apple")
    assert {group_of_name(name) for name in names} == {"red apple"}
    assert group_of_name("Straße") == group_of_name("STRASSE")
    assert group_of_name("-- !") == ""


def test_without_a_name_the_picture_is_the_group() -> None:
    assert group_of("", b"one") == group_of("?!", b"one") == content_of(b"one") != group_of("", b"other")
    assert group_of("apple", b"one") == group_of("apple", b"other")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_share_that_is_held_out(share: float) -> None:
    held = np.array([is_held_out(f"thing {n}", share) for n in range(4000)])
    assert abs(held.mean() - share) <= 4 * (share * (1 - share) / 4000) ** 0.5


def test_a_larger_share_holds_out_the_smaller_ones_too() -> None:
    groups = [f"thing {n}" for n in range(500)]
    few, many = ({group for group in groups if is_held_out(group, share)} for share in (0.1, 0.3))
    assert few < many


def test_the_rule_is_pinned() -> None:
    """Figures of several versions are compared only while the same groups are held out."""
    assert is_held_out("red apple", 0.317) and not is_held_out("red apple", 0.316)
