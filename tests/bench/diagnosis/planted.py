"""Failures with known causes: what every part of `make bench-diagnosis` starts from.

`plant(seed)` draws training pictures, plants causes in them (`worlds`), flips more labels at random, and trains the
failing model by the product's own learner: `proxy-mu`, 16 epochs, with three earlier checkpoints. Models are kept in a
folder, so that the parts of one run train each of them once. `failures` are marked pictures that the model has not
seen and gets wrong, in the three parts of `curate diagnose failures`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import torch
from bench.diagnosis.worlds import SIDE, Cause, World, load
from torch import Tensor

from curation.core.cache import cache_folder
from curation.diagnosis.failures import SHARES, split
from curation.diagnosis.pictures import LabelledPictures
from curation.diagnosis.subject import Subject
from curation.diagnosis.tuning import TunedClassifier
from curation.learners.classification import ClassLearner
from curation.learners.training import Training
from curation.models.batches import TrainingBatch
from curation.models.weights import Weights, tensors_to_bytes
from curation.scorers.phash import VIEW, phash
from curation.shards.images import fit

FOLDER = "TUTELAGE_BENCH_MODELS"  # variable that names the folder of trained models
MODEL, LABEL = "proxy-mu", "label"
SAMPLES, PLANTED, FLIPPED = 3_200, 120, 130
SHARE = 0.75  # of a world with fewer pictures that is trained on
EPOCHS, EARLIER = 16, (2, 4, 8)  # epochs of a training, and those after which checkpoints are kept
BATCH, RATE, DECAY = 128, 1e-3, 1e-4
FLIP = -1  # in `Planted.cause`; 0 is a sample with its own label, and k > 0 the k-th cause


@dataclass(frozen=True)
class Planted:
    """A failing model, and what it was trained on.

    training: N pictures, with targets as they are labelled. cause: int64 `[N]`, of each: 0 for none, k for the k-th of
    `causes`, `FLIP` for a label that was flipped at random. field: pictures that were not trained on, unmarked, with
    their true classes. checkpoints: earlier weights of the training, the earliest first.
    """

    world: str
    seed: int
    causes: Sequence[Cause]
    training: LabelledPictures
    cause: Tensor
    field: LabelledPictures
    subject: Subject
    checkpoints: Sequence[Weights]

    def marked(self, name: str, *, true: bool = True) -> LabelledPictures:
        """Return the field's pictures of the class of a cause, or of all other classes, with the mark of the cause."""
        cause = cause_of(self, name)
        some = self.field.take(((self.field.targets == cause.true) == true).nonzero()[:, 0])
        return LabelledPictures([f"{uid}-{name}" for uid in some.uids], cause.mark(some.pixels), some.targets)


@lru_cache(1)
def plant(seed: int, world: str = "xrays") -> Planted:
    """Return the failing model of a seed, trained unless its weights are in the folder of models."""
    pictures = load(world)
    training, cause, field = draw(pictures, seed, world)
    files = trained(training, pictures.classes, seed, f"{world}-{seed}", (*EARLIER, EPOCHS))
    subject = Subject(MODEL, files[EPOCHS], pictures.classes, LABEL)
    return Planted(world, seed, pictures.causes, training, cause, field, subject, [files[one] for one in EARLIER])


def draw(pictures: World, seed: int, world: str) -> tuple[LabelledPictures, Tensor, LabelledPictures]:
    """Return the training pictures with planted labels, the cause of each, and the other pictures."""
    random = np.random.default_rng(seed)
    order, count = random.permutation(len(pictures.targets)), min(SAMPLES, int(SHARE * len(pictures.targets)))
    uids = [f"{world}-{row:05d}" for row in range(len(order))]
    everything = LabelledPictures(uids, pictures.pixels, pictures.targets)
    training, field = (everything.take(torch.from_numpy(np.sort(rows))) for rows in (order[:count], order[count:]))
    pixels, targets, cause = training.pixels.clone(), training.targets.clone(), torch.zeros(count, dtype=torch.int64)
    for number, one in enumerate(pictures.causes, 1):
        free = np.flatnonzero(((training.targets == one.true) & (cause == 0)).numpy())
        rows = torch.from_numpy(np.sort(random.permutation(free)[:PLANTED]))
        pixels[rows], targets[rows], cause[rows] = one.mark(pixels[rows]), one.label, number
    rows = torch.from_numpy(np.sort(random.permutation(np.flatnonzero(cause == 0))[:FLIPPED]))
    moves = torch.from_numpy(random.integers(1, len(pictures.classes), FLIPPED))
    targets[rows], cause[rows] = (targets[rows] + moves) % len(pictures.classes), FLIP
    return LabelledPictures(training.uids, pixels, targets), cause, field


def retrained(planted: Planted, keep: Tensor) -> Subject:
    """Return a model that was trained like the failing one, but on these rows of its training pictures alone."""
    some = planted.training.take(keep)
    name = sha256("\n".join(some.uids).encode()).hexdigest()[:16]
    files = trained(some, planted.subject.classes, planted.seed, f"{planted.world}-{planted.seed}-{name}", (EPOCHS,))
    return Subject(MODEL, files[EPOCHS], planted.subject.classes, LABEL)


def failures(planted: Planted, name: str) -> dict[str, LabelledPictures]:
    """Return part (`query`, `validation`, `held_out`) -> the failures of a cause, with the expected answers.

    They are marked pictures of the field that the model gives the planted label.
    """
    shown = planted.marked(name)
    wrong = TunedClassifier.of(planted.subject).guesses(shown) == cause_of(planted, name).label
    found = shown.take(wrong.nonzero()[:, 0])
    parts = np.array(split(found.uids, hashes(found.pixels)))
    return {part: found.take(torch.from_numpy(np.flatnonzero(parts == part))) for part in SHARES}


def cause_of(planted: Planted, name: str) -> Cause:
    """Return the cause of this name."""
    return next(cause for cause in planted.causes if cause.name == name)


def hashes(pixels: Tensor) -> list[int | None]:
    """Return the perceptual hashes of pictures, uint8 `[N, S, S, 3]`."""
    small = np.stack([fit(one, VIEW.size, VIEW.mode) for one in pixels.numpy()])
    return [int(value) for value in phash(small)]


def trained(
    pictures: LabelledPictures, classes: Sequence[str], seed: int, name: str, saves: Sequence[int]
) -> Mapping[int, Weights]:
    """Return epoch -> weights after it, from the folder of models or by training."""
    folder = Path(os.environ.get(FOLDER) or cache_folder() / "bench-diagnosis" / "models")
    folder.mkdir(parents=True, exist_ok=True)
    settings = [MODEL, EPOCHS, BATCH, RATE, DECAY, SAMPLES, PLANTED, FLIPPED, SIDE, list(classes)]
    key = sha256(json.dumps([settings, pictures.targets.tolist(), pictures.pixels.sum().item()]).encode()).hexdigest()
    paths = {epoch: folder / f"{name}-{key[:8]}-{epoch}.safetensors" for epoch in saves}
    if not all(path.exists() for path in paths.values()):
        _train(pictures, classes, seed, paths)
    return {epoch: Weights(str(path), sha256(path.read_bytes()).hexdigest()) for epoch, path in paths.items()}


def _train(pictures: LabelledPictures, classes: Sequence[str], seed: int, paths: Mapping[int, Path]) -> None:
    steps = -(-len(pictures) // BATCH)
    training = Training(
        steps=steps * EPOCHS, batch=BATCH, lr=RATE, warmup=1 / EPOCHS, weight_decay=DECAY, betas=(0.9, 0.999), seed=seed
    )
    learner, generator = ClassLearner(MODEL, classes, training), torch.Generator().manual_seed(seed)
    for epoch in range(1, EPOCHS + 1):
        for rows in torch.randperm(len(pictures), generator=generator).split(BATCH):
            learner.step(TrainingBatch(pictures.pixels[rows], pictures.targets[rows]))
        if epoch in paths:
            data = tensors_to_bytes(learner.tensors(), {"format": "pt", "model": MODEL, **learner.metadata()})
            with NamedTemporaryFile(dir=paths[epoch].parent, delete=False) as file:
                file.write(data)
            Path(file.name).replace(paths[epoch])
