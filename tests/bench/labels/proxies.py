"""A proxy of our own, trained out of fold on the noisy labels by the function behind `curate proxy train --folds 5`."""

from __future__ import annotations

import io
import tempfile
from contextlib import redirect_stderr
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from bench.labels.noisy import Array, Noisy, write_shard

from curation.core.holdout import content_of
from curation.evaluation.fold_training import FoldTraining, run
from curation.evaluation.job import TrainingJob
from curation.learners.training import Training
from curation.models.fold_classifiers import FoldRule, shared_fold_classifiers
from curation.models.weights import Weights

MODEL = "proxy-patches"
FOLDS, RUNS = 5, 2  # two runs, so that BALD has something to compare


class Judged(NamedTuple):
    """The distributions of the runs, out of fold, [R, N, K], in the order of the classes of the data."""

    runs: Array

    @property
    def posterior(self) -> Array:
        """Their mean, as the scorers take it, [N, K]."""
        found: Array = self.runs.mean(axis=0)
        return found


def judge(data: Noisy, seed: int) -> Judged:
    """Train classifiers by folds on the first labels, and let each picture be judged by those that did not see it."""
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
        write_shard(data, Path(folder) / "corpus" / "0.tar")
        job = TrainingJob(
            data=f"{folder}/corpus", model=MODEL, out=f"{folder}/folds", training=Training(seed=seed, batch=16),
            holdout=0.0, threads=torch.get_num_threads(), device="cpu",
        )  # fmt: skip
        card = run(FoldTraining(job=job, label="label", rule=FoldRule(FOLDS, RUNS)))
        folds = shared_fold_classifiers(MODEL, Weights(card["weights"], card["sha256"]), torch.device("cpu"), None)
    contents = [content_of(one) for one in data.pictures.files]
    found = folds.runs(data.pictures.pixels(folds.preprocess.size), contents)
    shared_fold_classifiers.cache_clear()
    places = [folds.classes.index(name) if name in folds.classes else -1 for name in data.classes]
    return Judged(np.stack([np.where(place < 0, 0.0, found[:, :, place]) for place in places], axis=2))
