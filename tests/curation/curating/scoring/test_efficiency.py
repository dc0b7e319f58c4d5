"""The efficiency of a run: which stage was the limit, and how much of the workers' time it took."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from curation.curating.scoring.efficiency import Efficiency, StageSeconds
from curation.storage.store_waits import waiting

SECONDS = StageSeconds(starting=2.0, store=0.5, decode=4.0, models=5.0, tables=0.5)


@pytest.mark.parametrize(
    ("seconds", "ahead", "expected"),
    [
        (SECONDS, False, Efficiency("decode + models", 0.9)),
        (SECONDS, True, Efficiency("models", 0.5)),
        (StageSeconds(decode=6.0, models=2.0), True, Efficiency("decode", 0.75)),
        (StageSeconds(starting=3.0), False, None),
    ],
)
def test_the_limit_is_the_stage_that_takes_the_workers_time(
    seconds: StageSeconds, ahead: bool, expected: Efficiency | None
) -> None:
    assert replace(seconds, ahead=ahead).efficiency() == expected


def test_the_line_names_the_limit_its_share_and_the_stages() -> None:
    assert SECONDS.line() == (
        "efficiency: 90% of the workers' 10.0 s went into the limit, decode + models (models 50%, read and decode 40%, "
        "build and commit tables 5%, wait for the store 5%); starting took 2.0 s"
    )
    assert StageSeconds().line() == "" and StageSeconds().to_json() is None
    found = replace(SECONDS, ahead=True).to_json()
    assert found is not None and (found["limit"], found["share"], found["seconds"]["models"]) == ("models", 0.5, 5.0)


def test_seconds_of_workers_add_up() -> None:
    total = StageSeconds(models=1.0)
    total.add(SECONDS)
    assert total == StageSeconds(2.0, 0.5, 4.0, 6.0, 0.5) and total.total() == 13.0


def test_waits_for_the_store_are_not_decoding() -> None:
    seconds = StageSeconds()
    with seconds.spent("decode"), waiting, waiting:
        time.sleep(0.02)
    assert seconds.store >= 0.02 and seconds.decode < seconds.store
