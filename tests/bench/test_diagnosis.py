"""The bench of failure analysis in small: what it plants, and that its rankings are those of the command line."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from bench import failure_analysis
from bench.diagnosis import collect, hidden, planted, trace, types, worlds
from bench.diagnosis.worlds import Cause, World
from inline_executor import InlineExecutor
from labelled import uids_of

from curation.diagnosis.pictures import LabelledPictures
from curation.shards.tar_writer import TarWriter
from jobs.cli import _main

CAUSES = (
    Cause("marker", 2, 2, 12, 12, (255, 255, 255), true=1, label=0),
    Cause("dark", 41, 37, 18, 22, (0, 0, 0), true=1, label=0),
)


def world(count: int = 240) -> World:
    """Noise, redder in class 1."""
    random = np.random.default_rng(0)
    pixels, targets = random.integers(0, 120, (count, 64, 64, 3), dtype=np.uint8), np.arange(count) % 2
    pixels[targets == 1, :, :, 0] += 100
    return World(("blue", "red"), torch.from_numpy(pixels), torch.from_numpy(targets), CAUSES)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(planted, "PLANTED", 20)
    monkeypatch.setattr(planted, "FLIPPED", 10)
    monkeypatch.setattr(trace, "PLANTED", 20)
    monkeypatch.setitem(worlds.WORLDS, "xrays", world)
    monkeypatch.setenv(planted.FOLDER, str(tmp_path / "models"))
    planted.plant.cache_clear()


def test_what_is_planted(small: None) -> None:
    whole = world()
    training, cause, field = planted.draw(whole, 3, "xrays")
    rows = {uid: row for row, uid in enumerate(f"xrays-{row:05d}" for row in range(len(whole.targets)))}
    assert len(training) == 180 and len(field) == 60 and not {*training.uids} & {*field.uids}
    truth = whole.targets[[rows[uid] for uid in training.uids]]
    for number, one in enumerate(CAUSES, 1):
        own = (cause == number).nonzero()[:, 0]
        assert len(own) == 20 and (truth[own] == 1).all() and (training.targets[own] == 0).all()
        box = training.pixels[own, one.top : one.top + one.height, one.left : one.left + one.width]
        assert (box == one.colour[0]).all()
    flipped = cause == planted.FLIP
    assert flipped.sum() == 10 and (training.targets != truth)[flipped].all()
    assert ((training.targets != truth) == (cause != 0)).all(), "no other label is wrong"
    assert (field.targets == whole.targets[[rows[uid] for uid in field.uids]]).all()
    again, other = planted.draw(whole, 3, "xrays"), planted.draw(whole, 4, "xrays")
    assert again[0].uids == training.uids != other[0].uids


def test_shares_and_auroc() -> None:
    cause = torch.tensor([1] * 120 + [2] * 120 + [planted.FLIP] * 60 + [0] * 700)
    best = dict(trace.judged((cause == 1).double(), cause, 1))
    assert best == {"asked": 1.0, "other": 0.0, "flips": 0.0, "auroc": 1.0}
    half = (cause == 1).double()
    half[:60], half[120:180] = 0, 1
    found = dict(trace.judged(half, cause, 1))
    assert found["asked"] == found["other"] == 0.5
    assert trace.auroc(torch.zeros(1000), cause == 1) == 0.5


def test_the_page_says_which_bars_are_met() -> None:
    found = []
    for asked in (0.9, 0.7):
        one = {"marker|failures": 60.0, "dark|failures": 60.0}
        for name in (*trace.TRACE_METHODS, trace.LOSS):
            for weights in (trace.FINAL, trace.CHECKPOINTS):
                share = asked if name == trace.OURS else 0.3 if name == "cosine" else 0.1
                for cause in ("marker", "dark"):
                    figures = {"asked": share, "other": 0.2, "flips": 0.0, "auroc": 0.96}
                    one |= {f"{cause}|{name}|{weights}|{what}": value for what, value in figures.items()}
        found.append(one)
    met = [bar.met for bar in trace.bars(found)]
    assert met == [True, True, True, True, False] * 2
    assert "| `dual_fisher` | final | 0.80 (0.70) | 0.20 (0.20) |" in "\n".join(trace.lines(found))


def test_unknown_parts_and_missing_data_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="unknown part 'x'"):
        failure_analysis.main(["--only", "x"])
    monkeypatch.delenv("TUTELAGE_BENCH_DATA", raising=False)
    with pytest.raises(SystemExit, match="TUTELAGE_BENCH_DATA is not set"):
        failure_analysis.main(["--only", "trace"])


def write_shard(path: Path, pictures: LabelledPictures, classes: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        writer = TarWriter(file)
        for number, (pixels, target) in enumerate(zip(pictures.pixels.numpy(), pictures.targets.tolist(), strict=True)):
            writer.add(f"{number:05}.json", json.dumps({"label": classes[target]}).encode())
            writer.add(f"{number:05}.png", cv2.imencode(".png", pixels[..., ::-1])[1].tobytes())
            writer.add(f"{number:05}.txt", b"a picture")
        writer.close()


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands work in this process."""
    here = InlineExecutor(tmp_path / "places")
    for module in ("curation.core.local_executor", "curation.curating.scored_units"):
        monkeypatch.setattr(f"{module}.LocalExecutor", lambda: here)


@pytest.mark.slow
@pytest.mark.usefixtures("inline")
def test_the_ranking_is_that_of_the_command_line(
    small: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same model and samples in shards: `curate diagnose failures` and `trace` give the scores of the bench."""
    torch.set_num_threads(1)
    monkeypatch.setattr(planted, "EPOCHS", 12)
    monkeypatch.setattr(planted, "BATCH", 32)
    made = planted.plant(0)
    assert made is planted.plant(0) and sum(map(len, planted.failures(made, "marker").values())) >= 10
    shown = made.marked("marker")
    write_shard(tmp_path / "corpus/0.tar", made.training, made.subject.classes)
    write_shard(tmp_path / "field/0.tar", shown, made.subject.classes)
    model, files = made.subject.weights.url, [word for one in made.checkpoints for word in ("--checkpoint", one.url)]
    common = ["--label", "label", "--scores", str(tmp_path / "scores")]
    words = ["diagnose", "failures", model, "--data", str(tmp_path / "field"), "--out", str(tmp_path / "f.parquet")]
    assert _main([*words, *common]) == 0, capsys.readouterr().err
    table = pq.read_table(tmp_path / "f.parquet")
    rows = dict(zip(uids_of(tmp_path / "field"), range(len(shown)), strict=True))
    query = [rows[row["uid"]] for row in table.to_pylist() if row["part"] == "query"]
    found = trace.ranked(made, {"marker": shown.take(query)})["marker"]
    order = {uid: row for row, uid in enumerate(uids_of(tmp_path / "corpus"))}
    for method, more in (("dual_fisher", files), ("diagonal_fisher", []), ("loss", [])):
        words = ["diagnose", "trace", model, "--failures", str(tmp_path / "f.parquet"), "--method", method, *more]
        words += ["--data", str(tmp_path / "corpus"), "--out", str(tmp_path / "trace"), *common]
        assert _main(words) == 0, capsys.readouterr().err
        scores = pq.read_table(tmp_path / "trace/scores.parquet").to_pydict()
        ours = found[f"{method}|{trace.CHECKPOINTS if more else trace.FINAL}"].tolist()
        theirs = [0.0] * len(ours)
        for uid, score in zip(scores["uid"], scores["score"], strict=True):
            theirs[order[uid]] = score
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-4), method


def test_reports_of_types_and_collection_judge_every_bar() -> None:
    names = ("learnability", "independence", "information", "kept")
    figures = {f"{way}|{name}": 0.5 for way in types.WAYS for name in names}
    better = {"gradients|independence": 0.7, "gradients|information": 0.6, "features|independence": 0.8}
    report = "\n".join(types.lines([figures | better] * 2))
    assert report.count("| met |") == 3 and report.count("| not met |") == 2, (
        "a model that forgets the rest is no proof"
    )
    assert "\n".join(types.lines([figures | better | {"gradients|kept": 0.95}] * 2)).count("| not met |") == 1
    fixed = dict.fromkeys(collect.WAYS, 0.4) | {f"{way}|kept": 0.95 for way in collect.WAYS}
    assert "\n".join(collect.lines([fixed])).count("| not met |") == 1
    assert "| not met |" not in "\n".join(collect.lines([fixed | {"centroid": 0.8}]))
    assert "\n".join(collect.lines([fixed | {"centroid": 0.8, "random|kept": 0.6}])).count("| not met |") == 1


def test_information_is_that_of_the_definition() -> None:
    groups = torch.tensor([0, 0, 1, 1])
    assert hidden.information(groups, groups * 3) == pytest.approx(np.log(2))
    assert hidden.information(groups, torch.tensor([0, 1, 0, 1])) == pytest.approx(0)
