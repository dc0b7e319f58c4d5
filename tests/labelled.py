"""Labelled samples, and models of their labels, for tests of evaluations under several labellings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from builders import picture

from curation.dataset.loader import SampleStream
from curation.dataset.open_shards import open_shards
from curation.learners.classification import ClassLearner
from curation.learners.training import Training
from curation.models.weights import tensors_to_bytes
from curation.shards.tar_writer import TarWriter

CLASSES = ["cat", "dog", "owl"]


def write_labelled(folder: Path, labels: Sequence[Any], origins: Mapping[int, str] = {}) -> Path:
    """Write a shard of pictures with these labels in the field `name`; None for a json without it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "0.tar").open("wb") as file:
        writer = TarWriter(file)
        for number, label in enumerate(labels):
            about: dict[str, Any] = {} if label is None else {"name": label}
            if number in origins:
                about["tutelage"] = {"origin": origins[number]}
            writer.add(f"{number:04}.png", picture(number, "png"))
            writer.add(f"{number:04}.json", json.dumps(about).encode())
            writer.add(f"{number:04}.txt", b"a thing")
        writer.close()
    return folder


def uids_of(url: str | Path) -> list[str]:
    """Return the uids of all samples of a corpus, in their order."""
    return [example.uid for example in SampleStream(open_shards(str(url)), size=16, shuffle=0)]


def write_probabilities(path: Path, uids: Sequence[str], guesses: Sequence[str], classes: Sequence[str]) -> Path:
    """Write a table of a model that is sure of each guess."""
    lists = [[0.9 if name == guess else 0.1 / (len(classes) - 1) for name in classes] for guess in guesses]
    table = pa.table({"uid": list(uids), "probabilities": lists})
    pq.write_table(table.replace_schema_metadata({"classes": json.dumps(list(classes))}), path)
    return path


def write_classifier(path: Path, classes: Sequence[str], seed: int = 0) -> Path:
    """Write an untrained classifier as `curate learn` writes a trained one."""
    learner = ClassLearner("proxy-mu", classes, Training(seed=seed), torch.device("cpu"))
    metadata = {"format": "pt", "model": "proxy-mu", **learner.metadata()}
    path.write_bytes(tensors_to_bytes(learner.tensors(), metadata))
    return path
