"""When a decision is refused: much quarantined, nothing kept, or far less than before."""

from __future__ import annotations

from typing import Any

import pytest

from curation.curating.acceptance import refusals


def samples(kept: int, filtered: int = 0, quarantined: int = 0) -> dict[str, Any]:
    found = {"seen": kept + filtered + quarantined, "kept": kept}
    named = {"filtered": {"caption": filtered}, "quarantined": {"image_truncated": quarantined}}
    return found | {key: {name: n for name, n in counts.items() if n} for key, counts in named.items()}


def units(total: int = 10, **empty: int) -> dict[str, Any]:
    return {"total": total, "empty": empty}


def said(*args: Any, most: float = 0.05, **options: Any) -> list[str]:
    return list(refusals(*args, most=most, **options))


@pytest.mark.parametrize(
    ("found", "most", "refused"),
    [
        (samples(95, 0, 5), 0.05, False),
        (samples(94, 0, 6), 0.05, True),
        (samples(1, 0, 99), 1.0, False),
        (samples(99, 0, 1), 0.0, True),
        (samples(100), 0.0, False),
    ],
)
def test_the_limit_is_the_largest_share_that_may_be_quarantined(
    found: dict[str, Any], most: float, refused: bool
) -> None:
    assert bool(said(found, units(), most=most)) == refused


def test_shards_without_a_sample_count_as_shards() -> None:
    (line,) = said(samples(1000), units(10, not_a_tar=1))
    assert line == "10.0% of the shards are quarantined, 1 of 10, and limits.max_quarantined is 5.0%: not_a_tar 1"
    assert not said(samples(1000), units(20, not_a_tar=1))


def test_a_corpus_of_error_pages_keeps_nothing_whatever_is_accepted() -> None:
    lines = said(samples(0), units(3, not_a_tar=3), most=1.0)
    assert lines == ["none of 0 samples is kept: shards are quarantined whole, not_a_tar 3"]
    assert said(samples(0), units(3), most=1.0) == ["none of 0 samples is kept: the shards hold none"]


def test_the_commonest_reasons_are_named_with_what_is_known_of_them() -> None:
    found = {"seen": 620, "kept": 2, "filtered": {"caption.short": 3, "near": 5}}
    found["quarantined"] = {"score_not_finite": 600, "bad_json": 4, "x": 3, "y": 3}
    first, *_ = said(found, units(), causes={"score_not_finite": "clip_score is NaN or missing for 600"})
    assert first.endswith(
        "score_not_finite 600 (clip_score is NaN or missing for 600), bad_json 4, x 3 and 1 other reasons"
    )


@pytest.mark.parametrize(("kept", "refused"), [(30, False), (25, False), (24, True), (0, True)])
def test_half_of_the_last_yield_is_accepted_and_less_is_not(kept: int, refused: bool) -> None:
    lines = said(samples(kept, 100 - kept), units(), parent=samples(500, 500))
    assert bool(lines) == refused
    if kept:
        assert all("less than half of the 50.0% of the last snapshot: caption 76" in line for line in lines)
    assert not said(samples(kept + 1, 99 - kept), units(), parent=samples(0, 1000)), "a parent that keeps nothing"
