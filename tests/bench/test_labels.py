"""The bench of label cleaning in small: its simulation equals a queue on disk, and its figures are what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bench import label_cleaning
from bench.labels import cifar10h, icons, methods, models, proxies, simulation
from bench.labels.measure import Measured
from bench.labels.methods import Figures
from bench.labels.noisy import Pictures, noisy
from bench.labels.report import WHO, bars, report
from builders import picture
from review_queues import CLASSES, make_queue

from curation.annotators.simulated import Simulated
from curation.core.distributions import active_score, cross_entropy, entropy
from curation.models import patch_tower
from curation.review.corrections import corrections
from curation.review.rounds import annotate

Array = np.ndarray[Any, Any]


def voted(count: int, seed: int = 0, classes: int = 3) -> Pictures:
    """Pictures without pixels, whose votes agree for the most part."""
    random = np.random.default_rng(seed)
    votes = random.integers(0, 2, (count, classes)) + 20 * np.eye(classes)[random.integers(0, classes, count)]
    return Pictures([f"uid-{row:04d}" for row in range(count)], [b""] * count, ["png"] * count, votes)


def planted(count: int, wrong: float, seed: int = 0) -> methods.Noisy:
    pictures, random = voted(count, seed), np.random.default_rng(seed)
    labels = np.where(random.random(count) < wrong, (pictures.truth + 1) % 3, pictures.truth)
    return noisy(pictures, CLASSES, labels)


def test_the_simulation_gives_the_labels_of_a_queue_on_disk(tmp_path: Path) -> None:
    """`annotate` and `apply` on a real queue, and the same budgets, votes and seed in memory."""
    for seed, budget in ((0, 9), (1, 25), (2, 1000)):
        queue = make_queue(tmp_path / str(seed), 12, budget=budget)
        uids = queue.items.column("uid").to_pylist()
        votes = np.random.default_rng(seed).integers(0, 5, (12, 3)) + 1
        path = tmp_path / f"{seed}.parquet"
        pq.write_table(pa.table({"uid": uids, "votes": votes.tolist()}), path)
        annotate(queue, Simulated(distribution=str(path), seed=seed))
        edits, status = corrections(queue)
        labels = np.array([CLASSES.index(label or "") for label in queue.labels])
        ask = simulation.annotator(uids, votes, CLASSES, seed)
        found = simulation.clean(uids, labels, votes.argmax(1), CLASSES, np.arange(12), budget, ask)
        replaced = dict(zip(edits.column("uid").to_pylist(), edits.column("value").to_pylist(), strict=True))
        wanted = [replaced.get(uid, f'"{CLASSES[label]}"') for uid, label in zip(uids, labels.tolist(), strict=True)]
        assert [f'"{CLASSES[label]}"' for label in found.labels.tolist()] == wanted and len(replaced) > 0
        assert len(found.correct) == status.spent + 1
        assert found.correct[-1] == (found.labels == votes.argmax(1)).sum()


def test_the_order_is_that_of_the_formulas() -> None:
    data = planted(200, 0.2)
    posterior = np.random.default_rng(1).dirichlet([0.5] * 3, 200)
    scores = simulation.columns(data.labels, posterior, data.truth)
    error = cross_entropy(np.eye(3)[data.labels], posterior).astype(np.float32)
    active = active_score(error.astype(float), entropy(posterior).astype(np.float32).astype(float))
    uids = data.pictures.uids
    assert simulation.order(uids, scores, "active").tolist() == simulation.by_value(uids, active).tolist()
    oracle = simulation.order(uids, scores, "oracle")
    assert (data.labels != data.truth)[oracle][: data.wrong].all()
    one, other = (simulation.order(uids, scores, "random", seed).tolist() for seed in (0, 1))
    assert one != other and sorted(one) == sorted(other) == list(range(200))


@pytest.mark.slow
def test_methods_that_know_more_need_fewer_answers() -> None:
    data = planted(600, 0.2)
    random = np.random.default_rng(0)
    sure = 0.9 * np.eye(3)[data.truth] + 0.1 * random.dirichlet([1] * 3, 600)
    runs = np.stack([sure, random.dirichlet([1] * 3, 600)])
    embedding = np.eye(3)[data.truth] + 0.1 * random.normal(size=(600, 3))
    found = methods.compare(data, sure, 0, runs=runs, embedding=embedding)
    ratio = {name: one.ratio for name, one in found.figures.items()}
    assert set(ratio) == {*methods.OURS, *methods.CONTROLS, "random", "oracle"}
    assert ratio["active"] == pytest.approx(ratio["oracle"], rel=0.1) and ratio["active"] > 1.5
    assert ratio["random"] == 1 and ratio["shuffled"] == pytest.approx(1, abs=0.25) and ratio["entropy"] < 1.5
    assert found.figures["active"].fixed > found.figures["random"].fixed
    labels = found.cleaned["active"]
    assert (labels == data.truth).sum() - (data.labels == data.truth).sum() == found.figures["active"].fixed


def test_a_shuffled_distribution_stays_within_its_label() -> None:
    labels = np.array([0, 0, 1, 1, 1])
    posterior = np.arange(15.0).reshape(5, 3)
    found = methods.shuffled(posterior, labels, np.random.default_rng(0))
    assert sorted(found[:2].tolist()) == posterior[:2].tolist() and sorted(found[2:].tolist()) == posterior[2:].tolist()


def test_a_draw_has_the_ambiguous_pictures_and_the_budget_of_the_paper() -> None:
    pictures = voted(400, classes=10)
    pictures.votes[:30] = 1  # nobody knows
    pictures.votes[:30, 0] = 2
    drawn = cifar10h.draw(pictures, np.full((400, 10), 0.1), 2, seed=0, samples=100)
    assert len(drawn.data.labels) == 100 and set(range(30)) <= set(drawn.rows.tolist())
    assert sorted([*drawn.rows.tolist(), *drawn.others.tolist()]) == list(range(400))
    assert drawn.data.budget == min(3 * drawn.data.wrong, 100) and 20 < drawn.data.wrong < 70
    again = cifar10h.draw(pictures, np.full((400, 10), 0.1), 2, seed=0, samples=100)
    assert (again.data.labels == drawn.data.labels).all()
    hotter = cifar10h.draw(pictures, np.full((400, 10), 0.1), 10, seed=0, samples=100)
    assert hotter.data.wrong > drawn.data.wrong


@pytest.mark.slow
def test_a_proxy_is_trained_on_the_noisy_labels_out_of_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies, "FOLDS", 2)
    monkeypatch.setattr(proxies, "RUNS", 1)
    monkeypatch.setattr(patch_tower, "SAMPLE", 10_000)
    data = planted(90, 0.1)
    tint = np.array([[90, 0, 0], [0, 90, 0], [0, 0, 90]])
    images = [np.random.default_rng(row).integers(0, 120, (32, 32, 3)) for row in range(90)]
    coloured = [(one + tint[label]).astype(np.uint8) for one, label in zip(images, data.truth.tolist(), strict=True)]
    import cv2

    files = [cv2.imencode(".png", one)[1].tobytes() for one in coloured]
    judged = proxies.judge(data._replace(pictures=data.pictures._replace(files=files)), 0)
    assert judged.runs.shape == (1, 90, 3) and np.allclose(judged.runs.sum(axis=2), 1)
    assert (judged.posterior.argmax(axis=1) == data.truth).mean() > 0.9


def test_six_models_and_a_learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "PATTERNS", (12, 8, 4))
    monkeypatch.setattr(patch_tower, "SAMPLE", 2_000)
    pictures = voted(120, classes=10)._replace(files=[picture(row, "png", 32) for row in range(120)])
    models.write_features(pictures, tmp_path)
    drawn = cifar10h.draw(pictures, np.full((120, 10), 0.1), 10, seed=0, samples=60)
    truth = drawn.data.truth
    document = models.six_models(drawn, pictures, {"own": truth}, tmp_path, 0)
    assert len(document["models"]) == 6 and list(document["labellings"]) == ["noisy", "own", "true"]
    assert next(one["tau"] for one in document["orders"] if (one["from"], one["to"]) == ("own", "true")) == 1
    found = models.learner(drawn, pictures.truth, {"active": truth, "random 0": drawn.data.labels}, tmp_path)
    assert found["active"] == found["true"] and found["random"] == found["noisy"]
    ridge = models.learner(drawn, pictures.truth, {"active": truth, "random 0": truth}, tmp_path, models.guesses)
    assert ridge["active"] == ridge["random"] == ridge["true"]


def test_icons_have_planted_labels_and_annotators_who_err_half_as_often() -> None:
    captions = ["a red bird", "red birds sing", "red bird icon", "stock chart", "chart of stock", "a b c"] * 10
    packs = ["x", "x", "y", "z", "z", "y"] * 10
    data = icons.plant(voted(60), captions, packs, 0)
    assert data.classes == ["x", "y", "z"] and [data.classes[label] for label in data.truth.tolist()] == packs
    assert data.wrong == round(60 * icons.WRONG) and data.budget == 3 * data.wrong
    assert np.allclose(data.pictures.votes.max(axis=1), 1 - icons.ANNOTATORS_WRONG)


def measured(seed: int, ratio: float) -> Measured:
    known = {name: Figures(1.0 + 0.01 * seed, 10) for name in (*methods.CONTROLS, "random")}
    figures = {**known, "active": Figures(ratio, 50), "error": Figures(ratio, 50), "oracle": Figures(4.3, 55)}
    learner = {"given": {"noisy": 0.5, "random": 0.52, "active": 0.54 + 0.001 * seed, "true": 0.6}}
    tau = {("noisy", "true"): 0.6, ("noisy", "given"): 0.6, ("given", "true"): 0.8 if seed else 0.6}
    order = {
        "labellings": {"noisy": {}, "given": {}, "true": {}}, "models": {"m": {name: {"rate": 0.5} for name in
        ("noisy", "given", "true")}}, "orders": [{"from": one, "to": to, "tau": value}
        for (one, to), value in tau.items()],
    }  # fmt: skip
    return Measured("14.8 %", seed, 5000, 740, 2220, {"given": figures}, None, learner, learner, order)


def test_every_bar_has_a_figure_and_a_verdict() -> None:
    found = [measured(seed, 4.1 + 0.1 * seed) for seed in range(3)]
    verdicts = {one.title: (one.figure, one.met) for one in bars(found, 1000)}
    (speed,) = (value for title, value in verdicts.items() if "at least 4.0 times" in title)
    assert speed == ("4.20 ± 0.25, worst seed 4.10", True)
    assert sum(met for _, met in verdicts.values()) == len(verdicts) - 2
    missed = [title for title, (_, met) in verdicts.items() if not met]
    assert "six models" in missed[0] and "15 minutes" in missed[1]
    lines = report(found, 100)
    assert all(WHO in line for line in lines if re.search(r"\d", line.replace("cifar10h", "")))
    assert any("no difference shown" in line for line in lines), "of the entropy term"


def test_missing_data_is_one_line_with_its_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for folder in (None, str(tmp_path)):
        monkeypatch.delenv(cifar10h.VARIABLE, raising=False)
        if folder:
            monkeypatch.setenv(cifar10h.VARIABLE, folder)
        with pytest.raises(SystemExit, match=r"cifar10h\.parquet.*github\.com/jcpeterson/cifar-10h") as caught:
            label_cleaning.main([])
        assert "\n" not in str(caught.value)
    with pytest.raises(SystemExit, match="unknown part 'nonsense'; parts: given, own"):
        label_cleaning.main(["--only", "nonsense"])
