"""`curate evaluate`: the models of each arm, what is trained again, and mistakes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from evaluating import SMALL, count_runs, invoke, open_kept
from running import curate

import curation as cu
from curation.core.errors import EmptyCorpusError, NoSnapshotError, UserError
from curation.evaluation import card
from jobs.commands.evaluate import evaluate
from jobs.commands.inspect import diff, show
from jobs.commands.verify import problems_of


@pytest.mark.slow
def test_an_evaluation_compares_with_the_pool_and_a_random_part(first: tuple[Path, dict[str, Any]]) -> None:
    home, found = first
    assert found["judged"] == 6
    (document,) = found["evaluations"]
    arms = document["arms"]
    kept = open_kept(home, 1)
    assert {arm: made["samples"] for arm, made in arms.items()} == {"curated": kept, "raw": 50, "random": kept}
    for arm in arms.values():
        assert [row["seed"] for row in arm["runs"]] == [0, 1]
        values = [row["recall@5"] for row in arm["runs"]]
        assert arm["mean"]["recall@5"]["mean"] == pytest.approx(sum(values) / 2)
        assert len({row["sha256"] for row in arm["runs"]}) == 2
    minus = document["minus"]["raw"]["recall@1"]
    assert minus["paired"] and minus["word"] in ("better", "worse", "no difference shown")
    assert document["overlap"] == {"kept": 0, "pool": 0} and not document["weighted"]
    assert arms["raw"]["runs"][0]["samples_seen"] == 16 and arms["raw"]["runs"][0]["flops"] > 1e8


@pytest.mark.slow
def test_nothing_is_trained_twice(
    first: tuple[Path, dict[str, Any]], evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = f"{evaluated}/out", count_runs(monkeypatch)
    assert invoke(evaluated, f"{out}@1") == {**first[1], "judged": 0} and not seen
    again = invoke(evaluated, f"{out}@2", f"{out}@1", "--no-random")  # the pool's models are there
    assert len(seen) == again["judged"] == 2 and not any("raw" in data for data in seen)
    command = [f"{out}@1", "--against", f"{evaluated}/test", *SMALL]
    assert "nothing to train" in CliRunner().invoke(evaluate, command, catch_exceptions=False).stdout


@pytest.mark.slow
def test_interrupted_it_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        before = count_runs(patch, stop_at=3)
        command = [f"{home}/out@1", "--against", f"{home}/test", *SMALL]
        assert CliRunner().invoke(evaluate, command).exit_code == 1
    assert not (home / "out/evaluations").exists()
    after = count_runs(monkeypatch)
    invoke(home, f"{home}/out@1")
    assert len(before) == len(after) == 3 and not set(before) & set(after)
    assert [data.split()[-1] for data in before] == ["0", "0", "0"], "every arm with the first seed first"


@pytest.mark.slow
def test_who_comes_second_with_other_last_bits_takes_the_first_ones_model(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = card.tensors_to_bytes

    def another_machine(tensors: Any, metadata: Any) -> bytes:
        """Between its start and its end, another process finishes the same run with weights of its own."""
        monkeypatch.setattr(card, "tensors_to_bytes", lambda t, m: real({k: v + 1e-7 for k, v in t.items()}, m))
        invoke(home, f"{home}/out@1", "--no-raw", "--no-random")
        return real(tensors, metadata)

    monkeypatch.setattr(card, "tensors_to_bytes", another_machine)
    first = invoke(home, f"{home}/out@1", "--no-raw", "--no-random")
    assert invoke(home, f"{home}/out@1", "--no-raw", "--no-random") == {**first, "judged": 0}
    found = first["evaluations"][0]["arms"]["curated"]["runs"][0]
    folder = home / "out/runs" / found["run"]
    assert json.loads((folder / "card.json").read_text())["sha256"] == found["sha256"]
    assert len(list(folder.glob("proxy-mu-*.safetensors"))) == 2, "neither wrote over the other's"


@pytest.mark.slow
def test_arms_are_streamed_alike_where_one_is_too_large(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = invoke(home, f"{home}/out@1")["evaluations"][0]
    kept, pool = whole["arms"]["curated"]["samples"], whole["arms"]["raw"]["samples"]
    monkeypatch.setattr("curation.evaluation.protocol.BUDGET", (kept + pool) // 2 * 64 * 64 * 3)
    found = invoke(home, f"{home}/out@1")
    (document,) = found["evaluations"]
    assert found["judged"] == 6 and document["protocol"] == {**whole["protocol"], "streamed": True}
    for arm in ("curated", "raw", "random"):
        assert document["arms"][arm]["runs"][0]["run"] != whole["arms"][arm]["runs"][0]["run"]
    said = CliRunner().invoke(diff, [f"{home}/out@1", f"{home}/out@2"], catch_exceptions=False).stdout
    assert "evaluations" not in said


@pytest.mark.slow
def test_a_snapshots_own_models_meet_samples_as_often_as_they_weigh(home: Path) -> None:
    rows = cu.open(f"{home}/out@1").manifest.query("SELECT uid FROM manifest WHERE decision = 'kept'")
    lines = [f"{uid}\t{1 + number % 2}\n" for number, uid in enumerate(rows.column("uid").to_pylist())]
    (home / "weights.tsv").write_text("".join(lines))
    curate(home / "r.yaml", f"weights={home}/weights.tsv", f"output={home}/weighed")
    plain, weighed = (invoke(home, f"{home}/{name}", "--no-random")["evaluations"][0] for name in ("out@1", "weighed"))
    assert [one["weighted"] for one in (plain, weighed)] == [False, True]
    runs = [[run["sha256"] for run in one["arms"]["curated"]["runs"]] for one in (plain, weighed)]
    assert not set(runs[0]) & set(runs[1])  # the same samples, met otherwise
    assert plain["arms"]["raw"]["mean"] == weighed["arms"]["raw"]["mean"]
    text = CliRunner().invoke(show, [f"{home}/weighed"], catch_exceptions=False).stdout
    assert "as often as its weight" in text


@pytest.mark.slow
def test_a_snapshot_that_keeps_all_has_its_pool_for_a_random_part(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curate(home / "r.yaml", "filters=[]", f"output={home}/all", f"corpus={home}/corpus")
    seen = count_runs(monkeypatch)
    (document,) = invoke(home, f"{home}/all")["evaluations"]
    assert len(seen) == 4 and document["arms"]["random"]["mean"] == document["arms"]["raw"]["mean"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "against", "error", "words"),
    [
        (["out@7"], "test", NoSnapshotError, "@7"),
        (["corpus"], "test", NoSnapshotError, "no snapshot"),
        (["out"], "nothing", EmptyCorpusError, "no shard"),
        (["out"], "broken", UserError, "0 samples to be judged on .skipped: tar_"),
        (["out", "--batch", "64"], "test", UserError, "a batch takes 64"),
    ],
)
def test_mistakes(arguments: list[str], against: str, error: type[Exception], words: str, home: Path) -> None:
    (home / "nothing").mkdir()
    (home / "broken").mkdir()
    (home / "broken/00000.tar").write_bytes(b"<html>")
    url, *more = arguments
    with pytest.raises(error, match=words):
        command = [f"{home}/{url}", "--against", f"{home}/{against}", *SMALL, *more]
        CliRunner().invoke(evaluate, command, catch_exceptions=False)
    assert not (home / "out/runs").exists()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_models_side_by_side_are_the_same_models_and_verify_does_not_mind(home: Path) -> None:
    alone = invoke(home, f"{home}/out@1", "--no-raw", "--runs", f"{home}/alone")
    shutil.rmtree(home / "out/evaluations")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="this machine has no GPU"):
            invoke(home, f"{home}/out@1", "--no-raw", "--workers", "2", "--device", "cuda")
    beside = invoke(home, f"{home}/out@1", "--no-raw", "--workers", "2")
    assert beside["judged"] == 4
    for arm, found in beside["evaluations"][0]["arms"].items():
        assert found["mean"] == alone["evaluations"][0]["arms"][arm]["mean"]
    assert list(problems_of(cu.open(f"{home}/out@1"))) == []
