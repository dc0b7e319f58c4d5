"""Samples in memory: rows are taken and joined in order, column by column."""

from __future__ import annotations

import numpy as np

from curation.models.batches import Examples


def examples(first: int, count: int) -> Examples:
    rows = range(first, first + count)
    pixels = np.stack([np.full((4, 4, 3), row, np.uint8) for row in rows])
    return Examples(pixels, [f"c{row}" for row in rows], [f"u{row}" for row in rows], [f"l{row}" for row in rows])


def columns(found: Examples) -> list[tuple[int, str, str, str]]:
    return list(zip(found.pixels[:, 0, 0, 0].tolist(), found.captions, found.uids, found.labels, strict=True))


def test_rows_are_taken_in_the_order_asked_for() -> None:
    assert columns(examples(0, 5).take([3, 0, 3])) == [(n, f"c{n}", f"u{n}", f"l{n}") for n in (3, 0, 3)]


def test_parts_are_joined_in_order() -> None:
    parts = [examples(0, 2), Examples.empty(4), examples(7, 3)]
    joined = Examples.concatenated(parts)
    assert len(joined) == 5
    assert columns(joined) == [row for part in parts for row in columns(part)]
    assert Examples.concatenated(parts[:1]) is parts[0], "a single part is not copied"


def test_no_samples_have_a_size_still() -> None:
    assert Examples.empty(32).pixels.shape == (0, 32, 32, 3) and len(Examples.empty(32)) == 0
