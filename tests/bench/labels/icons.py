"""`openmoji-icons` with planted noise: what everybody can build. Labels are packs, and packs with like captions mix.

Wrong labels come from `curation.corpora.label_noise`, as those of `make demo`. Simulated annotators err with the same
preferences, half as often.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from bench.labels.noisy import Noisy, Pictures, noisy

from curation.corpora import openmoji_icons
from curation.corpora.label_noise import caption_confusion, wrong_labels
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
    """Return the icons with planted wrong labels, and the distributions of annotators' answers as votes."""
    classes = sorted(set(packs))
    truth = np.array([classes.index(pack) for pack in packs])
    confusion = caption_confusion(packs, captions, classes, WRONG)
    given = wrong_labels(pictures.uids, packs, classes, confusion, WRONG, seed)
    votes = caption_confusion(packs, captions, classes, ANNOTATORS_WRONG)[truth]
    return noisy(pictures._replace(votes=votes), classes, np.array([classes.index(pack) for pack in given]))
