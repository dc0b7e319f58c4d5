"""A queue of coloured pictures with some wrong labels, and classifiers by folds trained on them: what ranks again."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from review_queues import make_queue

from curation.annotators import Ask, Question, Reply
from curation.evaluation.fold_training import FoldTraining, run
from curation.evaluation.job import TrainingJob
from curation.learners.training import Training
from curation.models.fold_classifiers import FoldRule
from curation.models.weights import Weights
from curation.review.queue import Queue, create_queue
from curation.review.reranking import Ranker

COLOURS = {"red": (40, 40, 220), "green": (40, 220, 40)}
CLASSES = ("green", "red")
CPU = torch.device("cpu")


def coloured(name: str, seed: int) -> bytes:
    """A noisy picture of one colour, as PNG."""
    noise = np.random.default_rng(seed).integers(0, 30, (32, 32, 3))
    return cv2.imencode(".png", (np.array(COLOURS[name]) + noise).clip(0, 255).astype(np.uint8))[1].tobytes()


def truth_of(item: int) -> str:
    return CLASSES[item % 2]


def colour_queue(
    root: Path, n: int = 40, wrong: Collection[int] = (), changes: Mapping[int, Mapping[str, Any]] = {},
    budget: int = 200,
) -> Queue:  # fmt: skip
    """A queue of n pictures, green and red in turn, under `root`; the labels of the items `wrong` are the other one.

    A single answer decides. The queue records no classifiers.
    """
    given: dict[int, dict[str, Any]] = {}
    for item in range(n):
        given[item] = {"label": CLASSES[(item + (item in wrong)) % 2], "image": coloured(truth_of(item), item)}
        given[item] |= changes.get(item, {})
    return make_queue(root, n, budget=budget, current_votes=0, classes=CLASSES, changes=given)


def train_folds(data: Path, out: Path, steps: int = 30, runs: int = 1, model: str = "proxy-mu") -> dict[str, Any]:
    """Train classifiers of three folds on the labels of `data`; return their card."""
    torch.set_num_threads(1)
    training = Training(steps=steps, batch=16, lr=2e-3)
    job = TrainingJob(
        data=str(data), model=model, out=str(out), training=training, holdout=0.0, threads=1, device="cpu"
    )
    return run(FoldTraining(job=job, label="label", rule=FoldRule(3, runs)))


def ranker_for(card: dict[str, Any], priority: Any = "active") -> Ranker:
    return Ranker(priority, card["model"], Weights(card["weights"], card["sha256"]), CPU)


def with_reranking(queue: Queue, url: Path, card: dict[str, Any], every: int) -> Queue:
    """A queue of the same items that records its classifiers."""
    pin = {
        "every": every,
        "priority": "active",
        "model": card["model"],
        "weights": card["weights"],
        "sha256": card["sha256"],
    }
    document = json.loads(json.dumps(queue.document.to_json()))
    for name in ("kind", "version", "items"):
        document.pop(name)
    return create_queue(str(url), {**document, "reranking": pin}, queue.items)


def tells_the_truth(question: Question) -> Reply:
    """An `Ask` that knows every label."""
    return Reply(f"sim-{question.n}", truth_of(question.item))


class TruthTellers:
    """An annotator of the truth."""

    about = "simulated annotators"

    def open(self, classes: Any, uids: Any) -> Ask:
        return tells_the_truth
