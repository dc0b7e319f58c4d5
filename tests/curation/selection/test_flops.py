"""The ledger of compute: by hand, and against the closed formula of the paper."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from curation.selection.flops import ComputeLedger, Payoff, Point, Prices, Repeated, payoff
from curation.selection.online import Choice, OnlineStep, Roles

BOTH = frozenset({"online", "reference"})


def step(candidates: int, chosen: int, *, scored: bool = True) -> OnlineStep:
    scores = torch.zeros(candidates) if scored else None
    return OnlineStep(Choice(0, torch.arange(candidates), scores, torch.arange(chosen)), None, None)


def roles(**more: Any) -> Roles[Any]:
    return Roles(learner=object(), **more)  # type: ignore[arg-type]


def test_by_hand() -> None:
    """2 updates of 4 of 10: 3 x 100 x 8 learning, (10 + 20) x 20 scoring, 3 x 10 x 8 online, 500 for the reference."""
    prices = Prices(learner=100, online=10, reference=20, reference_training=500)
    ledger, who = ComputeLedger(prices), roles(online=object(), reference=object())
    for _ in range(2):
        ledger.add(step(10, 4), who, BOTH)
    assert ledger.parts() == {"learning": 2400, "scoring": 600, "online": 240, "reference": 500}
    assert ledger.totals() == {"scoring": 3000, "online": 3240, "full": 3740}
    assert ledger.updates == 2


def test_what_is_done_again_is_in_every_total() -> None:
    """Half of the updates again, and a third of the candidates, at what they have cost."""
    prices = Prices(learner=100, online=10, reference=20, reference_training=500)
    ledger, who = ComputeLedger(prices), roles(online=object(), reference=object())
    for _ in range(2):
        ledger.add(step(9, 4), who, BOTH)
    before = ledger.totals()
    ledger.repeated = Repeated(candidates=6, updates=1)
    again = (3 * 100 + 3 * 10) * 4 + 6 * (10 + 20)
    assert ledger.parts()["repeated"] == again
    assert ledger.totals() == {name: value + again for name, value in before.items()}


def test_captions_are_priced_by_their_lengths() -> None:
    prices = Prices(learner=100, online=10, trimmed={"learner": {8: 30.0, 16: 0.0}, "online": {8: 3.0, 12: 1.0}})
    ledger = ComputeLedger(prices)
    texts = {"learner": {8: 3, 16: 1}, "online": {8: 4}, "online_scoring": {12: 10}}
    ledger.add(step(10, 4), roles(online=object()), frozenset({"online"}), texts)
    assert ledger.parts() == {
        "learning": 3 * (100 * 4 - 30 * 3), "scoring": 10 * 10 - 10, "online": 3 * (10 * 4 - 3 * 4), "reference": 0
    }  # fmt: skip


def test_what_is_free() -> None:
    prices = Prices(learner=100, online=10, reference=20)
    uniform = ComputeLedger(prices)
    uniform.add(step(4, 4, scored=False), roles(), frozenset())
    assert uniform.totals() == {"scoring": 1200, "online": 1200, "full": 1200}
    from_tables = ComputeLedger(prices)
    from_tables.add(step(10, 4), roles(reference=object()), frozenset())
    assert from_tables.parts()["scoring"] == 0
    learner: Any = object()
    rho = ComputeLedger(Prices(learner=100, online=100, reference=20))
    rho.add(step(10, 4), Roles(learner=learner, online=learner, reference=object()), BOTH)  # type: ignore[arg-type]
    assert rho.parts() == {"learning": 1200, "scoring": 1200, "online": 0, "reference": 0}
    beside = ComputeLedger(prices)
    beside.add(step(10, 4), roles(reference=object(), reference_pool=object()), frozenset({"reference"}))
    assert beside.parts()["reference"] == 3 * 20 * 4


@given(
    updates=st.integers(1, 20), uniform=st.integers(1, 30), size=st.integers(1, 5), rho=st.integers(1, 4),
    prices=st.tuples(*[st.integers(1, 1000)] * 3),
)  # fmt: skip
def test_the_ledger_is_the_formula(
    updates: int, uniform: int, size: int, rho: int, prices: tuple[int, int, int]
) -> None:
    """(3 F_learner + rho F_act) beta + 3 F_ref FLOPs a sample of the uniform run, with beta the ratio of updates.

    Source: 2312.05328, equation 3. The reference is trained for as many updates as the uniform run; the online model's
    updates are left out.
    """
    learner, online, reference = prices
    ledger = ComputeLedger(
        Prices(learner=learner, online=online, reference=reference, reference_training=3 * reference * uniform * size)
    )
    for _ in range(updates):
        ledger.add(step(rho * size, size), roles(online=object(), reference=object()), BOTH)
    ours = (ledger.totals()["scoring"] + ledger.parts()["reference"]) / (uniform * size)
    theirs = (3 * learner + rho * (online + reference)) * updates / uniform + 3 * reference
    assert ours == pytest.approx(theirs)


def curve(*points: tuple[int, float, float]) -> list[Point]:
    return [Point(updates, quality, dict.fromkeys(("scoring", "online", "full"), flops))
            for updates, quality, flops in points]  # fmt: skip


UNIFORM = curve((100, 0.1, 10), (200, 0.2, 20), (300, 0.3, 30))


def test_what_was_saved() -> None:
    half = payoff(curve((100, 0.2, 12), (200, 0.4, 24)), UNIFORM)
    assert half.updates == 150 and half.updates_saved == pytest.approx(0.5)
    assert half.compute_saved is not None and half.compute_saved["full"] == pytest.approx(1 - 18 / 30)
    assert half.compute_positive
    dear = payoff(curve((100, 0.2, 30), (200, 0.4, 60)), UNIFORM)
    assert dear.updates_saved == pytest.approx(0.5) and not dear.compute_positive


def test_who_never_arrives_did_not_pay() -> None:
    assert payoff(curve((100, 0.2, 1), (900, 0.29, 2)), UNIFORM) == Payoff(0.3, None, None, None)
    assert not payoff(curve((100, 0.2, 1)), UNIFORM).compute_positive


def test_uniform_is_charged_until_it_first_has_its_final_quality() -> None:
    peaked = curve((100, 0.1, 10), (200, 0.5, 20), (300, 0.3, 30))
    saved = payoff(curve((150, 0.3, 15)), peaked)
    assert saved.updates_saved == pytest.approx(0.0)


def test_a_run_saves_nothing_against_itself() -> None:
    assert payoff(UNIFORM, UNIFORM).updates_saved == 0 and not payoff(UNIFORM, UNIFORM).compute_positive
