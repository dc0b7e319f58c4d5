"""Origins: which one outweighs which, and what a sample's json says."""

from __future__ import annotations

from typing import Any

import pytest

from curation.core.origins import ORIGINS, TRUSTED, expect_origins, origin_of, strongest


def test_an_image_that_was_made_outweighs_a_text_that_was_replaced() -> None:
    assert strongest([None, "relabelled"]) == "relabelled"
    assert strongest(["synthetic", "relabelled", "captioned"]) == "synthetic"
    assert strongest([]) == strongest([None]) == "real"
    assert set(TRUSTED) < set(ORIGINS)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, None),
        ({"tutelage": {"uid": "x"}}, None),
        ({"tutelage": {"origin": "real"}}, None),
        ({"tutelage": {"origin": "captioned"}}, "captioned"),
        ({"tutelage": {"origin": "dreamt"}}, "synthetic"),
        ({"tutelage": {"origin": ["real"]}}, "synthetic"),
        ({"tutelage": "synthetic"}, None),
    ],
)
def test_an_unknown_mark_is_not_taken_for_real(metadata: dict[str, Any], expected: str | None) -> None:
    assert origin_of(metadata) == expected


def test_a_wrong_name_is_refused() -> None:
    expect_origins(ORIGINS, "origins")
    with pytest.raises(ValueError, match="unknown origin 'fake'"):
        expect_origins(["real", "fake"], "origins")
    with pytest.raises(ValueError, match="empty"):
        expect_origins([], "origins")
