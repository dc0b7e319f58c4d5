"""What-if answers against counting by hand, and against deciding each setting afresh."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from decided_rows import decided_rows
from edits_given import of_lists
from what_if_rows import KINDS, SETTINGS, N, rows, setting

from curation.core.errors import ConservationError
from curation.core.words import WORD
from curation.curating.decisions import Decisions
from curation.curating.what_if import MADE, WhatIf, WhatIfAnswer
from curation.filters.named import NamedFilter
from curation.filters.threshold import Threshold


@pytest.fixture
def answers(tmp_path: Path) -> dict[str, WhatIfAnswer]:
    table = rows()
    kept = pa.table({"uid": table.column("uid"), "decision": ["kept" if i % 2 else "filtered" for i in range(N)]})
    with Decisions(tmp_path, ["caption"], KINDS) as engine:
        engine.load([(0, table)])
        asked = WhatIf(engine, kept.to_reader())
        return {name: asked.ask(name, filters) for name, filters in SETTINGS.items()}


def kept_by(tmp_path: Path, filters: list[NamedFilter], **lists: Any) -> set[int]:
    with Decisions(tmp_path, ["caption"], KINDS) as engine:
        engine.load([(0, rows())])
        engine.decide(filters, of_lists(**lists))
        return {row["row"] for row in decided_rows(engine, 0, 0).to_pylist() if row["decision"] == "kept"}


@pytest.mark.slow
def test_every_setting_is_what_deciding_it_alone_would_be(answers: dict[str, WhatIfAnswer], tmp_path: Path) -> None:
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


@pytest.mark.slow
def test_steps_add_up(answers: dict[str, WhatIfAnswer]) -> None:
    for answer in answers.values():
        reached = N - N // 40
        for step in answer.steps:
            assert step.reached == reached and step.rate == step.kept / reached
            reached = step.kept
        assert reached == answer.samples["kept"]


@pytest.mark.slow
def test_shifts_are_shares(answers: dict[str, WhatIfAnswer], tmp_path: Path) -> None:
    table = rows().to_pylist()
    kept = kept_by(tmp_path, SETTINGS["tight"])
    usable = [row for row in table if row["reason"] is None]
    for group in answers["tight"].shifts["language.code"]:
        was = sum(row["language.code"] == group["group"] for row in usable) / len(usable)
        now = sum(table[i]["language.code"] == group["group"] for i in kept) / len(kept)
        assert group["of_all"] == pytest.approx(was) and group["of_kept"] == pytest.approx(now)
    words = answers["tight"].shifts["caption_words"]
    assert {group["group"] for group in words} == {"0-3", "4-7", "8-11", "12-15", "16-19", "20+"}
    assert sum(group["of_all"] for group in words) == pytest.approx(1)


def test_examples_are_the_nearest_to_the_limit(answers: dict[str, WhatIfAnswer]) -> None:
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
            answer = asked.ask("none", filters, of_lists(**lists))
            assert answer.overlap is None and answer.samples["kept"] == 1
            assert answer.steps[0].reached == N - N // 40 - 1 and answer.steps[0].kept == 0


Row = dict[str, Any]

SPACES = (" ", "  ", "\t", "\n", "\r\n", "\f", "\v", "\u00a0", " \t ")

SETTINGS_OF_ALL_KINDS = {
    "everything": setting(-1.0, 1.0)[1:],
    "nothing": [NamedFilter("none", Threshold(score="score", min=2.0))],
    "some": setting(0.3, 0.5),
    "no filter": [],
}


def varied() -> pa.Table:
    """Captions with all sorts of white space, scores of which many are equal, clusters of which some are large."""
    rng = np.random.default_rng(1)
    captions = ["", " ", "\n", "x" * 3000, "é" * 600, *(f"{a}one{b}two{a}" for a in SPACES for b in SPACES)]
    captions += [
        "赤いりんごの写真",
        "红苹果 photo",
        "日本",
        "a b c d e f g",
        "deux\u3000mots",
        "a b c\x1cd",
        "a\vb c d",
    ]
    captions += [" ".join(["wörd"] * int(n)) for n in rng.integers(1, 30, N - len(captions))]
    table = rows().drop_columns(["caption", "score"]).append_column("caption", pa.array(captions))
    table = table.append_column("score", pa.array(np.round(rng.random(N), 1), pa.float32()))
    return table.append_column("topic.cluster", pa.array((20 * rng.random(N) ** 3).astype(np.int32)))


def snapshot() -> pa.Table:
    """The manifest of one that keeps every second sample, and some that are in no shard here."""
    uids = [*rows().column("uid").to_pylist(), *(f"{i:032x}" for i in range(N, N + 10))]
    return pa.table({"uid": uids, "decision": ["kept" if i % 2 else "filtered" for i in range(N + 10)]})


def words(row: Row) -> str:
    count = len(re.findall(WORD, row["caption"]))
    return "20+" if count >= 20 else f"{count // 4 * 4}-{count // 4 * 4 + 3}"


def shift(kind: Any, usable: Sequence[Row], kept: Sequence[Row]) -> list[Row]:
    was, now = Counter(map(kind, usable)), Counter(map(kind, kept))
    largest = sorted(was, key=lambda group: (-was[group], str(group)))[:8]
    if kind is words:
        largest.sort(key=lambda group: int(group.rstrip("+").partition("-")[0]))
    found = [(str(g), was[g], now[g]) for g in largest]
    if len(was) > 8:
        found.append(("(others)", *(sum(n for g, n in some.items() if g not in largest) for some in (was, now))))
    return [{"group": g, "of_all": a / len(usable), "of_kept": k / max(1, len(kept))} for g, a, k in found]


def nearest(dropped: Sequence[Row], kept: Sequence[Row], known: bool) -> list[Row]:
    best = sorted(dropped, key=lambda row: (-row["score"], row["uid"]))[:3]
    kept = [row for row in kept if known or not best or row["score"] >= best[0]["score"]]
    worst = sorted(kept, key=lambda row: (row["score"], row["uid"]))[:3]
    said = [{"uid": r["uid"], "caption": r["caption"], "score": r["score"], "kept": r in worst} for r in best + worst]
    return sorted(said, key=lambda row: (-row["score"], row["kept"], row["uid"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS_OF_ALL_KINDS)
@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("made", [{}, MADE], ids=["counted then", "counted before"])
def test_answers_are_what_counting_row_by_row_gives(
    name: str, listed: bool, made: dict[str, str], tmp_path: Path
) -> None:
    table, filters = varied(), SETTINGS_OF_ALL_KINDS[name]
    uids = table.column("uid").to_pylist()
    weights = pa.table({"uid": uids[50:], "weight": pa.array([0.5] * (N - 50), pa.float32())})
    lists = {"keep": pa.array(uids[7:9]), "drop": pa.array(uids[60:63]), "weights": weights} if listed else {}
    with Decisions(tmp_path, ["caption"], {**KINDS, "topic.cluster": pa.int32()}, made=made) as engine:
        engine.load([(0, table)])
        asked = WhatIf(engine, snapshot().to_reader(max_chunksize=100))
        asked.ask("before", SETTINGS["tight"])  # so that there is something to forget
        answer = asked.ask(name, filters, of_lists(**lists))
        decisions = decided_rows(engine, 0, 0).to_pylist()
        dropped_by = dict(engine.db.execute("SELECT id, split_part(reason, '.', 1) FROM decided.dropped").fetchall())
    decided = [{**row, **said} for row, said in zip(table.to_pylist(), decisions, strict=True)]
    kept = [row for row in decided if row["decision"] == "kept"]
    usable = [row for row in decided if row["decision"] != "quarantined"]

    assert answer.samples == {
        "seen": N,
        "kept": len(kept),
        "filtered": dict(Counter(row["reason"] for row in usable if row["decision"] == "filtered")),
        "quarantined": {"image_corrupt": N // 40},
    }
    was = {row["uid"] for row in snapshot().to_pylist() if row["decision"] == "kept"}
    now = {row["uid"] for row in kept}
    assert answer.overlap == {
        "in_both": len(was & now),
        "entering": len(now - was),
        "leaving": len(was - now),
        "jaccard": len(was & now) / len(was | now),
    }
    assert answer.shifts == {
        "caption_words": shift(words, usable, kept),
        "language.code": shift(lambda row: row["language.code"], usable, kept),
        "topic.cluster": shift(lambda row: row["topic.cluster"], usable, kept),
    }
    scored = [item for item in filters if item.name != "caption"]
    drops = {item.name: [row for i, row in enumerate(decided) if dropped_by.get(i) == item.name] for item in scored}
    near = {name: nearest(found, kept, name != "top_fraction") for name, found in drops.items()}
    assert answer.near == near


def test_a_corpus_of_which_nothing_can_be_used_has_an_answer(tmp_path: Path) -> None:
    table = rows().set_column(2, "reason", pa.array(["image_corrupt"] * N))
    with Decisions(tmp_path, ["caption"], KINDS) as engine:
        engine.load([(0, table)])
        answer = WhatIf(engine, snapshot().to_reader()).ask("tight", SETTINGS["tight"])
    assert answer.samples == {"seen": N, "kept": 0, "filtered": {}, "quarantined": {"image_corrupt": N}}
    assert answer.overlap == {"in_both": 0, "entering": 0, "leaving": N // 2 + 5, "jaccard": 0}
    assert answer.near == {"threshold": [], "top_fraction": []}


@dataclass(frozen=True)
class Twice:
    """A filter that breaks its promise: it names the same sample twice."""

    def columns(self) -> Sequence[str]:
        return ()

    def drops(self) -> str:
        return "SELECT id, '' AS detail FROM alive WHERE id = 1 UNION ALL SELECT 1, ''"


def test_counts_that_do_not_add_up_are_no_answer(tmp_path: Path) -> None:
    with Decisions(tmp_path, ["caption"], KINDS) as engine:
        engine.load([(0, rows())])
        with pytest.raises(ConservationError, match="odd: 389 samples are kept, but 388"):
            WhatIf(engine).ask("odd", [NamedFilter("twice", Twice())])
