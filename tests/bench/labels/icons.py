"""`openmoji-icons` with planted noise: what everybody can build. Labels are packs, and packs with like captions mix.

The first label of an icon is drawn from the row of its pack in a confusion matrix, whose errors go to other packs in
proportion to the similarity of their captions: the cosine of the packs' word counts (1 + log, times the inverse
frequency over packs). Simulated annotators err in the same way, half as often.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from bench.labels.noisy import Array, Noisy, Pictures, drawn, noisy

from curation.corpora import openmoji_icons
from curation.storage.store import open_store

SAMPLES = 3_000
WRONG, ANNOTATORS_WRONG = 0.15, 0.075


def load(folder: Path, samples: int) -> tuple[Pictures, list[str], list[str]]:
    """Build the corpus unless it exists. Returns its pictures, their captions and their packs, sorted by key.

    The votes are empty: `plant` makes them.
    """
    place = folder / f"icons-{samples}"
    openmoji_icons.build(open_store(str(place)), limit=samples, workers=1)
    found: dict[str, dict[str, bytes]] = defaultdict(dict)
    for path in sorted(place.glob("*.tar")):
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                found[key][extension] = file.read()
    keys = sorted(found)
    extensions = [next(name for name in found[key] if name not in ("json", "txt")) for key in keys]
    files = [found[key][extension] for key, extension in zip(keys, extensions, strict=True)]
    packs = [json.loads(found[key]["json"])["pack"] for key in keys]
    captions = [found[key]["txt"].decode() for key in keys]
    return Pictures(keys, files, extensions, np.zeros((len(keys), 0))), captions, packs


def plant(pictures: Pictures, captions: Sequence[str], packs: Sequence[str], seed: int) -> Noisy:
    """Return the icons with first labels drawn from the confusion matrix, and the answers of annotators as votes."""
    classes = sorted(set(packs))
    truth = np.array([classes.index(pack) for pack in packs])
    likeness = similarity(captions, truth, len(classes))
    labels = drawn(confusion(likeness, WRONG)[truth], np.random.default_rng(seed))
    return noisy(pictures._replace(votes=confusion(likeness, ANNOTATORS_WRONG)[truth]), classes, labels)


def similarity(captions: Sequence[str], truth: Array, classes: int) -> Array:
    """Return the cosines of the classes' word counts, [K, K]."""
    counts = [Counter[str]() for _ in range(classes)]
    for caption, label in zip(captions, truth.tolist(), strict=True):
        counts[label].update(caption.lower().split())
    words = sorted(set().union(*counts))
    frequency = np.array([sum(word in one for one in counts) for word in words])
    rows = np.array([[1 + np.log(one[word]) if word in one else 0.0 for word in words] for one in counts])
    rows *= np.log(1 + classes / frequency)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found: Array = rows @ rows.T
    return found


def confusion(likeness: Array, wrong: float) -> Array:
    """Return a matrix whose row is the distribution of the label of a true class; `wrong` of each row is not it.

    A class that is like no other one is mixed up with each equally often.
    """
    found = likeness.copy()
    np.fill_diagonal(found, 0)
    found[found.sum(axis=1) == 0] = 1
    np.fill_diagonal(found, 0)
    found *= wrong / found.sum(axis=1, keepdims=True)
    np.fill_diagonal(found, 1 - wrong)
    return found
