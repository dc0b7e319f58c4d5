"""What-if answers against counting by hand, and against deciding each setting afresh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.decisions import Decisions, NamedFilter
from curation.filters.caption import Caption
from curation.filters.threshold import Threshold
from curation.filters.top_fraction import TopFraction
from curation.what_if import Answer, WhatIf

N = 400


def rows() -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "row": pa.array(range(N), pa.int32()),
            "uid": [f"{i:032x}" for i in rng.permutation(N)],
            "reason": pa.array(["image_corrupt" if i % 40 == 0 else None for i in range(N)]),
            "caption": [" ".join(["word"] * int(n)) for n in rng.integers(0, 30, N)],
            "score": pa.array(rng.random(N), pa.float32()),
            "language.code": [str(code) for code in rng.choice(["en", "de", "ja"], N)],
        }
    )


def setting(least: float, fraction: float) -> list[NamedFilter]:
    items = (Caption(min_words=2), Threshold(score="score", min=least), TopFraction(score="score", fraction=fraction))
    return [NamedFilter(name, item) for name, item in zip(("caption", "threshold", "top_fraction"), items, strict=True)]


SETTINGS = {"loose": setting(0.1, 0.9), "tight": setting(0.5, 0.3), "loose again": setting(0.1, 0.9)}
KINDS = {"score": pa.float32(), "language.code": pa.string()}


@pytest.fixture
def answers(tmp_path: Path) -> dict[str, Answer]:
    table = rows()
    kept = pa.table({"uid": table.column("uid"), "decision": ["kept" if i % 2 else "filtered" for i in range(N)]})
    with Decisions(tmp_path, ["caption"], KINDS) as engine:
        engine.load([(0, table)])
        asked = WhatIf(engine, kept.to_reader())
        return {name: asked.ask(name, filters) for name, filters in SETTINGS.items()}


def kept_by(tmp_path: Path, filters: list[NamedFilter], **lists: Any) -> set[int]:
    with Decisions(tmp_path, ["caption"], KINDS) as engine:
        engine.load([(0, rows())])
        engine.decide(filters, **lists)
        return {row["row"] for row in engine.of_units(0, 0).to_pylist() if row["decision"] == "kept"}


def test_every_setting_is_what_deciding_it_alone_would_be(answers: dict[str, Answer], tmp_path: Path) -> None:
    for name, filters in SETTINGS.items():
        kept, answer = kept_by(tmp_path, filters), answers[name]
        assert answer.samples["kept"] == len(kept) and answer.samples["seen"] == N
        snapshot = {i for i in range(N) if i % 2}
        assert answer.overlap == {
            "in_both": len(kept & snapshot),
            "entering": len(kept - snapshot),
            "leaving": len(snapshot - kept),
            "jaccard": len(kept & snapshot) / len(kept | snapshot),
        }
    assert {**answers["loose again"].to_json(), "setting": "loose"} == answers["loose"].to_json()


def test_steps_add_up(answers: dict[str, Answer]) -> None:
    for answer in answers.values():
        reached = N - N // 40
        for step in answer.steps:
            assert step.reached == reached and step.rate == step.kept / reached
            reached = step.kept
        assert reached == answer.samples["kept"]


def test_shifts_are_shares(answers: dict[str, Answer], tmp_path: Path) -> None:
    table = rows().to_pylist()
    kept = kept_by(tmp_path, SETTINGS["tight"])
    usable = [row for row in table if row["reason"] is None]
    for group in answers["tight"].shifts["language.code"]:
        was = sum(row["language.code"] == group["group"] for row in usable) / len(usable)
        now = sum(table[i]["language.code"] == group["group"] for i in kept) / len(kept)
        assert group["of_all"] == pytest.approx(was) and group["of_kept"] == pytest.approx(now)
    words = answers["tight"].shifts["caption_words"]
    assert {group["group"] for group in words} == {"0", "4", "8", "12", "16", "20+"}
    assert sum(group["of_all"] for group in words) == pytest.approx(1)


def test_examples_are_the_nearest_to_the_limit(answers: dict[str, Answer]) -> None:
    near = answers["tight"].near
    assert set(near) == {"threshold", "top_fraction"}
    for examples in near.values():
        scores = [row["score"] for row in examples]
        assert scores == sorted(scores, reverse=True) and len(examples) == 6
        assert [row["kept"] for row in examples] == [True] * 3 + [False] * 3


def test_lists_and_no_snapshot(tmp_path: Path) -> None:
    uids = rows().column("uid").to_pylist()
    lists = {"keep": pa.array([uids[1]]), "drop": pa.array([uids[2]])}
    filters = [NamedFilter("threshold", Threshold(score="score", min=2.0))]
    with Decisions(tmp_path, ["caption"], KINDS) as engine:
        engine.load([(0, rows())])
        asked = WhatIf(engine)
        for _ in range(2):
            answer = asked.ask("none", filters, **lists)
            assert answer.overlap is None and answer.samples["kept"] == 1
            assert answer.steps[0].reached == N - N // 40 - 1 and answer.steps[0].kept == 0
