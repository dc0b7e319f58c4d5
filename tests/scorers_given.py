"""Inputs of the tests of scorers: fields of every scorer of the table, with real files, and batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from builders import write_weights
from torch.nn.functional import normalize

from curation.learners.classification import ClassLearner
from curation.learners.training import Training
from curation.models.fold_classifiers import FoldRule, folds_file
from curation.models.vectors import centres_file, vectors_file
from curation.models.weights import tensors_to_bytes
from curation.recipes.yaml_document import Where, build_entry
from curation.scorers import SCORERS, Batch, Scorer, reads_of
from curation.shards.unit_reader import view_column

CPU = torch.device("cpu")

Fields = dict[str, dict[str, Any]]


def all_fields(home: Path) -> Fields:
    """Fields of every scorer of the table, with real files. One whose fields all have defaults needs no line here."""
    encoder = {"model": "proxy-mu", "weights": f"{home}/w.safetensors"}
    encoder["sha256"] = write_weights(home / "w.safetensors")
    other = {**encoder, "weights": f"{home}/o.safetensors", "sha256": write_weights(home / "o.safetensors", seed=1)}
    some = normalize(torch.randn(70, 64, generator=torch.Generator().manual_seed(0)), dim=-1)
    vectors = write(home / "v.safetensors", vectors_file(some, some.flip(0), encoder["sha256"]))
    centres = write(home / "c.safetensors", centres_file(some[:9], "image", encoder["sha256"]))
    target = {"target": vectors["weights"], "target_sha256": vectors["sha256"]}
    layers = {"0.weight": torch.randn(5, 64), "0.bias": torch.randn(5), "2.weight": torch.randn(1, 5)}
    head = write(home / "h.safetensors", tensors_to_bytes(layers, {}))
    folds = {"model": "proxy-mu", **write(home / "folds.safetensors", classifiers(folds=2, runs=2))}
    table = write_probabilities(home / "p.parquet", range(60))
    return {
        **{name: {} for name in SCORERS},
        "aesthetic": {**encoder, "head": head},
        "clip_score": encoder,
        "cluster": {**encoder, "centres": centres["weights"], "centres_sha256": centres["sha256"], **target},
        "dfn": encoder,
        "embedding": encoder,
        "features": {"model": "proxy-mu", **write(home / "g.safetensors", classifier())},
        "gradient": {"model": "proxy-mu", "label": "name", **write(home / "g.safetensors", classifier())},
        "head": {**encoder, "head": {**head, "activation": "relu"}},
        "image_stats": {"size": 48},
        "label_ambiguity": table,
        "label_disagreement": folds,
        "label_error": folds,
        "label_margin": table | {"classes": list(CLASSES)},
        "label_posterior": folds,
        "learnability": {**encoder, "reference": other},
        "negclip_loss": {**encoder, "against": vectors["weights"], "against_sha256": vectors["sha256"]},
        "norm_sim": {**encoder, **target},
        "prediction": {"model": "proxy-mu", **write(home / "g.safetensors", classifier())},
        "text_masked_clip_score": {**encoder, "size": 96},
    }


def write(path: Path, data: bytes) -> dict[str, str]:
    path.write_bytes(data)
    return {"weights": str(path), "sha256": sha256(data).hexdigest()}


CLASSES = ("cat", "dog", "fox")


def classifiers(folds: int, runs: int, trained_on: int = 9) -> bytes:
    """The file of classifiers of three classes with random weights, which list the first pictures of `batch`."""
    training = Training(steps=1, batch=8)
    weights = [
        ClassLearner("proxy-mu", CLASSES, Training(steps=1, batch=8, seed=number)).tensors()
        for number in range(folds * runs)
    ]
    contents = [content(row) for row in range(trained_on)]
    return folds_file("proxy-mu", CLASSES, FoldRule(folds, runs), weights, contents, {"training": str(training)})


def classifier() -> bytes:
    """The weights of one classifier of the three classes, random."""
    learner = ClassLearner("proxy-mu", CLASSES, Training(steps=1, batch=8))
    return tensors_to_bytes(learner.tensors(), learner.metadata())


def write_probabilities(path: Path, rows: Sequence[int]) -> dict[str, str]:
    """A table of the samples of `batch` over three classes, without their names."""
    random = np.random.default_rng(0)
    lists = [random.dirichlet(np.ones(3)).tolist() for _ in rows]
    pq.write_table(pa.table({"uid": [uid(row) for row in rows], "probabilities": lists}), path)
    return {"probabilities": str(path), "sha256": sha256(path.read_bytes()).hexdigest()}


def uid(row: int) -> str:
    return sha256(f"uid {row}".encode()).hexdigest()[:32]


def content(row: int) -> str:
    return sha256(f"content {row}".encode()).hexdigest()[:32]


def columns(rows: Sequence[int | None], *scorers: Scorer) -> dict[str, list[Any]]:
    """The columns that scorers read, of samples, and None of a quarantined one."""
    values = {
        "uid": lambda row: uid(row),
        "content_hash": lambda row: content(row),
        "json.name": lambda row: CLASSES[row % 3],
    }
    wanted = {name for scorer in scorers for name in reads_of(scorer)}
    return {name: [None if row is None else values[name](row) for row in rows] for name in wanted}


def make(name: str, fields: Mapping[str, Any]) -> Scorer:
    """A scorer as a recipe makes it."""
    scorer: Scorer = build_entry({name: dict(fields)}, SCORERS, Where("recipe", {}), (), "scorer")[1]
    return scorer


def batch(rows: list[int], *scorers: Scorer) -> Batch:
    views = {}
    for view in (view for scorer in scorers for view in scorer.views()):
        pictures = [np.random.default_rng(i).integers(0, 255, (view.size, view.size, 3), dtype=np.uint8) for i in rows]
        views[view_column(view)] = np.stack(pictures) if pictures else np.zeros((0, view.size, view.size, 3), np.uint8)
    sizes = np.array([(60 + i, 120) for i in rows], np.int32).reshape(-1, 2)
    captions = [f"thing number {i} " + "word " * (i % 20) for i in rows]
    return Batch(captions, views, sizes, columns(rows, *scorers))


ROWS = list(range(9))


def seen(given: Fields, name: str) -> tuple[Any, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The scorer's values, and the vectors of images and captions under its own encoder."""
    scorer = make(name, given[name])
    sample = batch(ROWS, scorer)
    passes = make("clip_score", given["clip_score"]).open(CPU)  # type: ignore[attr-defined]
    image, text = (vectors.double().numpy() for vectors in (passes.image(sample), passes.text(sample)))
    return scorer.load(CPU)(sample), image, text


def batch_of(captions: list[str]) -> Batch:
    """A batch without pictures."""
    return Batch(captions, {})
