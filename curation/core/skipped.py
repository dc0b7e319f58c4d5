"""Counts of skipped samples by reason, formatted for reports."""

from __future__ import annotations

from collections.abc import Mapping


def summary(skipped: Mapping[str, int]) -> str:
    """Format the counts for the text after "skipped:", such as `image_corrupt 3, missing_text 1`."""
    return ", ".join(f"{reason} {count:,}" for reason, count in skipped.items()) or "none"


def lines(skipped: Mapping[str, int]) -> list[str]:
    """Return one indented line per reason, to follow a report."""
    return [f"  skipped {count:,}: {reason}" for reason, count in skipped.items()]
