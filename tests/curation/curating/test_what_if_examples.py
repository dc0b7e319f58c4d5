"""What-if's examples: the samples nearest to the limits of each filter, on both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from edits_given import edits
from what_if_rows import KINDS, N, rows

from curation.curating.decisions import Decisions
from curation.curating.what_if import WhatIf
from curation.filters import AllOf, AnyOf, Filter, NotOf
from curation.filters.named import NamedFilter
from curation.filters.threshold import Threshold
from curation.filters.top_fraction import TopFraction
from curation.ledger.recipe_edits import RecipeEdits


def test_what_a_list_keeps_is_an_example_of_what_stays(tmp_path: Path) -> None:
    table = rows()
    filters = [NamedFilter("threshold", Threshold(score="score", min=0.5))]
    low = sorted(zip(table.column("score").to_pylist(), table.column("uid").to_pylist(), strict=True))
    highest = max(row for row in low if row[0] is not None and row[0] < 0.5)
    with Decisions(tmp_path, ["caption"], KINDS) as engine:
        engine.load([(0, table)])
        (near,) = WhatIf(engine).ask("one", filters, RecipeEdits(edits((highest[1], "keep")))).near.values()
    assert [row["kept"] for row in near if row["uid"] == highest[1]] in ([True], [])
    assert highest[1] in {row["uid"] for row in near} and len({row["uid"] for row in near}) == len(near)


def test_filters_of_one_name_have_numbers(tmp_path: Path) -> None:
    limits = Threshold(score="score", min=0.2), Threshold(score="score", max=0.7)
    with Decisions(tmp_path, ["caption"], KINDS) as engine:
        engine.load([(0, rows())])
        answer = WhatIf(engine).ask("both", [NamedFilter("threshold", item) for item in limits])
    usable = [row["score"] for row in rows().to_pylist() if row["reason"] is None]
    low = [score for score in usable if score >= np.float32(0.2)]
    kept = [score for score in low if score <= np.float32(0.7)]
    steps = [(step.filter, step.reached, step.kept) for step in answer.steps]
    assert steps == [("threshold", len(usable), len(low)), ("threshold (2)", len(low), len(kept))]
    assert set(answer.near) == {"threshold", "threshold (2)"}
    shown = [row["score"] for row in answer.near["threshold (2)"]]
    over = sorted(score for score in low if score > np.float32(0.7))[:3]
    assert shown == sorted([*over, *sorted(kept)[-3:]], reverse=True)


def test_examples_between_two_limits(tmp_path: Path) -> None:
    item = Threshold(score="score", min=0.3, max=0.6)
    with Decisions(tmp_path, ["caption"], KINDS) as engine:
        engine.load([(0, rows())])
        near = WhatIf(engine).ask("between", [NamedFilter("threshold", item)]).near["threshold"]
    usable = [row["score"] for row in rows().to_pylist() if row["reason"] is None]

    def far(score: float) -> float:
        return min(abs(score - np.float32(0.3)), abs(score - np.float32(0.6)))

    inside = [score for score in usable if np.float32(0.3) <= score <= np.float32(0.6)]
    outside = [score for score in usable if score not in inside]
    for stays, among in ((True, inside), (False, outside)):
        shown = sorted(far(row["score"]) for row in near if row["kept"] is stays)
        assert shown == pytest.approx(sorted(map(far, among))[:3])


def examples(tmp_path: Path, item: Filter, kinds: dict[str, pa.DataType]) -> dict[str, list[dict[str, Any]]]:
    """Examples near the limits of a filter that combines others: column -> examples."""
    table = rows().append_column("other", pa.array(np.random.default_rng(5).random(N), pa.float32()))
    table = table.append_column("width", pa.array(range(N), pa.int32()))
    with Decisions(tmp_path, ["caption", "width"], kinds) as engine:
        engine.load([(0, table)])
        near = WhatIf(engine).ask("made of others", [NamedFilter("union", item)]).near
    values = {row["uid"]: row for row in table.to_pylist() if row["reason"] is None}
    return {name: [{**values[row["uid"]], "kept": row["kept"]} for row in found] for name, found in near.items()}


TWO = KINDS | {"other": pa.float32()}

HALVES = (TopFraction(score="score", fraction=0.5), TopFraction(score="other", fraction=0.5))


@pytest.mark.parametrize("made", [AllOf, AnyOf])
def test_examples_of_parts_lie_on_both_sides_of_the_limit_that_the_data_decide(made: Any, tmp_path: Path) -> None:
    found = examples(tmp_path, made(of=HALVES), TWO)
    assert list(found) == ["union: score", "union: other"]
    usable = [row for row in rows().to_pylist() if row["reason"] is None]
    cut = sorted((row["score"] for row in usable), reverse=True)[len(usable) // 2 - 1]
    shown = found["union: score"]
    assert [row["kept"] for row in shown] == [True] * 3 + [False] * 3
    assert all(row["score"] < cut for row in shown if not row["kept"])
    assert all(abs(row["score"] - cut) < 0.05 for row in shown)


def test_examples_of_known_limits_are_given_below_a_not_too(tmp_path: Path) -> None:
    item = NotOf(of=(AnyOf(of=(HALVES[0], Threshold(score="other", min=0.7), Threshold(score="width", min=390))),))
    found = examples(tmp_path, item, TWO)
    assert list(found) == ["union: other", "union: width"]
    assert all(abs(row["other"] - 0.7) < 0.05 for row in found["union: other"])
    assert {row["kept"] for row in found["union: other"]} == {True, False}
    kept = [row for row in found["union: width"] if row["kept"]]
    assert len(kept) == 3 and all(380 < row["width"] < 390 and row["other"] < 0.7 for row in kept)


def test_what_cuts_words_has_no_examples(tmp_path: Path) -> None:
    best = NamedFilter("best", TopFraction(score="language.code", fraction=0.5))
    with Decisions(tmp_path, ["caption"], KINDS) as engine:
        engine.load([(0, rows())])
        answer = WhatIf(engine).ask("by language", [best])
    assert answer.near == {} and answer.samples["kept"] == (N - N // 40) / 2
