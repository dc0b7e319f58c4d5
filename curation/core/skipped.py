"""What was left out of what was read, by reason, for a person."""

from __future__ import annotations

from collections.abc import Mapping


def words(skipped: Mapping[str, int]) -> str:
    """Behind "skipped:" in a message."""
    return ", ".join(f"{reason} {count:,}" for reason, count in skipped.items()) or "none"


def lines(skipped: Mapping[str, int]) -> list[str]:
    """A line a reason, below what is reported."""
    return [f"  skipped {count:,}: {reason}" for reason, count in skipped.items()]
