"""Train again without dropped samples: the truth that an erased model is compared with, and the commands for it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa
from safetensors.torch import load

from curation.core.errors import UserError
from curation.curating.run import RunOptions, curate
from curation.diagnosis.outcomes import Finished
from curation.diagnosis.repair_samples import RepairSamples, judge
from curation.diagnosis.subject import Subject, SubjectScores, open_subject
from curation.diagnosis.tuning import TunedClassifier
from curation.learning.learn import learn
from curation.ledger.edit_lists import EDIT_SCHEMA, EditList, write_edit_list
from curation.storage.store import Store
from curation.storage.urls import absolute_url

FOLDER = "retrain"  # below the folder of the erased weights: data.yaml, drops.parquet, data/ and model/


def put_recipe(store: Store, scored: SubjectScores, drops: EditList, data: str) -> str:
    """Write the recipe that curates the data without the drops, and return the commands that train on the result.

    A snapshot's samples have other uids in a recipe whose corpus is this snapshot, so that the recipe has a list of
    its own.
    """
    place = store.location(f"{FOLDER}/drops.parquet")
    dropped = set(drops.table.column("uid").to_pylist())
    rows = [
        {"uid": row["uid"], "verb": "drop"}
        for _, table in scored.units.tables([], ("uid", "key"))
        for row in table.to_pylist()
        if row["key" if scored.in_snapshot else "uid"] in dropped
    ]
    write_edit_list(place, pa.Table.from_pylist(rows, schema=EDIT_SCHEMA), store.options)
    corpus = scored.units.work.corpus
    pinned = f"{corpus.root}@{corpus.snapshot}" if scored.in_snapshot else absolute_url(data)
    document = {"corpus": pinned, "output": store.location(f"{FOLDER}/data"), "edits": place}
    store.put(f"{FOLDER}/data.yaml", json.dumps(document, indent=2).encode())  # JSON is YAML
    recipe, curated, model = (_path(store, name) for name in ("data.yaml", "data", "model"))
    learned = f"curate learn LEARN.yaml --set data={curated} --set output={model}"
    return f"curate run {recipe} && {learned}"


def _path(store: Store, name: str) -> str:
    """Return the path of a local file of the retraining, or its URL."""
    return store.location(f"{FOLDER}/{name}").removeprefix("file://")


def retrain(path: str, store: Store, subject: Subject) -> tuple[Subject, dict[str, Any]]:
    """Curate the data without the drops (`put_recipe`), train by a recipe, and return the model and its run's summary.

    Both go on where they were interrupted. Raises `UserError` for a recipe of other classes.
    """
    data, model = (store.location(f"{FOLDER}/{name}") for name in ("data", "model"))
    curate(_path(store, "data.yaml"), options=RunOptions(accept_yield=True))
    overrides = [f"data={json.dumps(data)}", f"output={json.dumps(model)}", "compare=null"]
    summary = learn(path, overrides=overrides)
    found = open_subject(model, subject.label, store.options)
    if found.classes != subject.classes:
        text = f"the classes of {path} without the drops are {', '.join(found.classes)}"
        raise UserError(text, fix=f"train on the classes of the model: {', '.join(subject.classes)}")
    return replace(found, numbers=subject.numbers, seed=subject.seed), summary


def compare(
    subject: Subject, erased: Finished, again: tuple[Subject, dict[str, Any]], samples: RepairSamples
) -> dict[str, Any]:
    """Return how an erased model compares with the one that was trained again.

    agreement: share of the held-out failures with the same guess. fixed: share that the erased model has right of those
    that the other has. cost: that of the erasing as a share of the training's, in FLOPs and in seconds.
    """
    other, summary = again
    ours, truth = TunedClassifier.of(subject), TunedClassifier.of(other)
    ours.module.load_state_dict(load(erased.weights))
    held_out = samples.failures["held_out"]
    guesses, wanted = ours.guesses(held_out), truth.guesses(held_out)
    fixable = wanted == held_out.targets
    flops, seconds = summary["flops"]["totals"]["full"], summary["seconds"]
    return {
        "weights": other.weights.url,
        "sha256": other.weights.sha256,
        "flops": flops,
        "seconds": seconds,
        "after": judge(truth, samples, list(subject.classes)),
        "agreement": float((guesses == wanted).double().mean()),
        "fixed": float((guesses == wanted)[fixable].double().mean()) if int(fixable.sum()) else None,
        "cost": {"flops": erased.record["flops"] / flops, "seconds": erased.record["seconds"] / seconds},
    }
