"""Counts by reason, as messages show them."""

from __future__ import annotations

from curation.core.skipped import lines, summary


def test_every_reason_is_shown_with_its_count() -> None:
    skipped = {"no caption": 1200, "not an image": 3}
    assert summary(skipped) == "no caption 1,200, not an image 3"
    assert summary({}) == "none" and lines({}) == []
    assert [line.split("skipped ")[1] for line in lines(skipped)] == ["1,200: no caption", "3: not an image"]
