"""`curate review rerank`, `annotate` and `build --every`: rank the items left again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from labelled_colours import CLASSES, colour_queue, train_folds, truth_of
from review_queues import answer
from running import command

from curation.review.queue import open_queue
from jobs.cli import _main

pytestmark = pytest.mark.usefixtures("inline")
WRONG = (3, 8, 12, 17)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    colour_queue(root, 40, WRONG)
    train_folds(root / "corpus", root / "folds", steps=3)
    return root


@pytest.fixture
def queue(root: Path, tmp_path: Path) -> Path:
    """A queue without answers that names no classifiers."""
    colour_queue(tmp_path, 40, WRONG, budget=30)
    return tmp_path / "queue"


def classifiers(root: Path) -> tuple[str, ...]:
    card = json.loads((root / "folds/card.json").read_text())
    return "--weights", card["weights"], "--sha256", card["sha256"], "--device", "cpu", "--threads", "1"


@pytest.mark.slow
def test_ranking_again(root: Path, queue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("review", "rerank", str(queue), *classifiers(root))
    opened = open_queue(str(queue))
    assert command(*words, "--every", "10") == "nothing to rank again (none yet)\n"
    for item in range(10):
        answer(opened, item, "ann", truth_of(item))
    lines = command(*words, "--every", "10").splitlines()
    assert lines[0] == "order 1: from 10 answers, 10 pictures trained on"
    assert lines[1].startswith("order 1: ") and "of the next 30 items are others than before" in lines[1]
    assert command(*words) == "nothing to rank again (the last one: order 1)\n"
    found = json.loads(command(*words, "--json"))
    assert not found["created"] and found["order"]["number"] == 1 and found["queue"] == opened.sha256
    assert "10 answered" in command("verify", str(queue))
    assert _main(["review", "rerank", str(queue)]) == 2
    assert "names no classifiers" in capsys.readouterr().err
    assert _main(["review", "rerank", str(queue), "--weights", "x"]) == 2
    assert _main(["review", "serve", str(queue), "--every", "10"]) == 2
    assert "names no classifiers" in capsys.readouterr().err


@pytest.mark.slow
def test_annotators_rank_again(root: Path, queue: Path) -> None:
    uids = open_queue(str(queue)).items.column("uid")
    votes = [[float(truth_of(item) == name) for name in CLASSES] for item in range(40)]
    pq.write_table(pa.table({"uid": uids, "votes": votes}), queue.parent / "votes")
    words = ("review", "annotate", str(queue), "--distribution", str(queue.parent / "votes"))
    lines = command(*words, "--every", "10", *classifiers(root)).splitlines()
    assert all(line.startswith("simulated annotators: ") for line in lines)
    assert sum("rank correlation" in line for line in lines) == 2, "after 10 and 20 of 30 answers"
    assert json.loads(command(*words, "--json"))["spent"] == 30
    assert "30 answered" in command("verify", str(queue))
    again = command("review", "rerank", str(queue), *classifiers(root)).splitlines()
    assert len(again) == 2 and all(line.startswith("simulated annotators: ") for line in again)


def recipe(root: Path, tmp_path: Path, *, by: str = "active") -> Path:
    card = json.loads((root / "folds/card.json").read_text())
    source: dict[str, Any] = {"model": "proxy-mu", "weights": card["weights"], "sha256": card["sha256"]}
    document = {
        "corpus": str(root / "corpus"), "output": str(tmp_path / "out"), "scores": str(root / "scores"),
        "scorers": [{"label_error": {**source, "label": "label"}}, {"label_ambiguity": source}],
        "filters": [{"doubtful_labels": {"by": by, "count": 20}}],
    }  # fmt: skip
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.slow
def test_a_queue_records_what_ranks_it_again(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe(root, tmp_path)
    command("run", str(path), "--accept-yield")
    words = ["review", "build", str(path), "--budget", "20", "--label", "label", "--every", "5"]
    command(*words, "--out", str(tmp_path / "queue"))
    opened = open_queue(str(tmp_path / "queue"))
    pin = opened.document.reranking
    assert pin is not None and (pin.every, pin.priority, pin.model) == (5, "active", "proxy-mu")
    found = json.loads(command("review", "rerank", str(tmp_path / "queue"), "--device", "cpu", "--json"))
    order = pq.read_table(tmp_path / f"queue/orders/{found['order']['table']['sha256']}.parquet")
    assert order.column("item").to_pylist() == list(range(20)), "without answers: the order of the build"
    assert order.column("priority").to_pylist() == pytest.approx(opened.items.column("priority").to_pylist(), abs=1e-6)
    assert found["order"]["change"] == {"left": 20, "correlation": 1.0, "next": 20, "entered": 0}
    more = ("--set", "filters.doubtful_labels.by=random", "--out", str(tmp_path / "other"))
    assert _main([*words, *more]) == 2
    assert "by no classifier" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
