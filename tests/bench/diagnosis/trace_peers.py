"""What others rank the same training samples by: captum's TracInCP, and cleanlab's label quality."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from bench.diagnosis.planted import MODEL, Planted
from bench.labels.methods import quality
from bench.labels.noisy import Pictures, noisy
from bench.labels.proxies import judge
from bench.throughput.environments import python_of
from torch import Tensor

from curation.core.cache import cache_folder
from curation.diagnosis.pictures import LabelledPictures

SCRIPT = Path(__file__).parents[1] / "peers" / "captum_run.py"
FOLDER = cache_folder() / "bench-labels"  # of the environments


def captum_scores(planted: Planted, asked: Mapping[str, LabelledPictures]) -> dict[str, Tensor]:
    """Return cause -> minus the mean influence of each training sample on the failures, `[N]`, over checkpoints."""
    files = [planted.subject.weights, *planted.checkpoints]
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "given.pt", Path(folder) / "found.npz"
        sets = {name: (some.pixels, some.targets) for name, some in asked.items()}
        training = (planted.training.pixels, planted.training.targets)
        about = {"model": MODEL, "classes": len(planted.subject.classes), "checkpoints": [one.url for one in files]}
        torch.save({"training": training, "failures": sets, **about}, given)
        path = os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
        command = [python_of("captum", FOLDER), str(SCRIPT), str(given), str(found)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL)
        with np.load(found) as read:
            return {name: -torch.from_numpy(read[name]).float() for name in asked}


def cleanlab_scores(planted: Planted) -> Tensor:
    """Return minus cleanlab's quality of each training label, `[N]`, by a proxy's probabilities out of fold."""
    training = planted.training
    files = [cv2.imencode(".png", one[..., ::-1])[1].tobytes() for one in training.pixels.numpy()]
    votes = np.eye(len(planted.subject.classes))[training.targets.numpy()]
    pictures = Pictures(list(training.uids), files, ["png"] * len(files), votes)
    data = noisy(pictures, planted.subject.classes, training.targets.numpy())
    found = quality(python_of("cleanlab", FOLDER), data.labels, judge(data, planted.seed).posterior)
    return -torch.from_numpy(found["self_confidence"]).float()
