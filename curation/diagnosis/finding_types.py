"""Find the types of a file of failures: read what they need, tune, name the types, and make them queries.

Memory: the pictures of at most `MOST_FAILURES` failures, and of `RIGHT` + `JUDGES` samples that the model gets right.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.nn.functional import normalize

from curation.core.digest import digest
from curation.core.errors import UserError
from curation.core.progress import progress
from curation.curating.ranged_pictures import read_hashes
from curation.curating.ranged_texts import SampleTexts, read_texts
from curation.diagnosis.failures import Failures
from curation.diagnosis.pictures import (
    LabelledPictures,
    Rows,
    draw_right,
    expect_own,
    labelled_pictures,
    unseen,
)
from curation.diagnosis.subject import CONTENT, Subject, SubjectScores
from curation.diagnosis.tuning import TunedClassifier, still_wrong
from curation.diagnosis.type_matrix import FailureGroup, TunedRow
from curation.diagnosis.type_names import distinct_terms, name_of, terms_of
from curation.diagnosis.type_queries import QUERY_SCHEMA, query_rows, tower_features
from curation.diagnosis.type_tuning import CommittedRows, GroupTuner, TypeTuning
from curation.diagnosis.types import FITTED, Side, find_sides, side_document
from curation.gradients import GradientSketch, class_losses
from curation.storage.store import Store, StoreOptions, open_store

VERSION = 1  # of types.json
MOST_FAILURES = 2048  # by uid
RIGHT, JUDGES = 1024, 512  # samples that the model is right about: to mix in, and to judge
ROWS = "rows"  # the folder of the committed rows of A
CHUNK = 256  # failures whose pixels are floats at once

#: Members of types: `type` is null for a failure of a side without types, and for one of a type without a query.
MEMBER_SCHEMA = pa.schema(
    [*((name, pa.string()) for name in ("uid", "part", "type", "expected", "guess", CONTENT)), ("phash", pa.int64())]
)


@dataclass(frozen=True)
class FoundTypes:
    """The facts of `types.json`, the members (`MEMBER_SCHEMA`), and the queries of the types (`QUERY_SCHEMA`)."""

    document: Mapping[str, Any]
    members: pa.Table
    queries: pa.Table


@dataclass(frozen=True)
class _Given:
    """What is read: the failures with their pictures, and samples that were right, mixed in and judging."""

    rows: Rows
    pictures: LabelledPictures
    right_rows: Rows
    right: LabelledPictures
    judges: LabelledPictures
    left_out: Mapping[str, int]


def find_types(
    subject: Subject, failures: Failures, scored: SubjectScores, folder: Path, *, projection: str = "pca",
    across: bool = False, tuning: TypeTuning | None = None, seed: int = 0,
) -> FoundTypes:  # fmt: skip
    """Find types among failures, measure them, and commit each row of the matrix A in `folder` once it is measured.

    scored: data that the model was trained on, from which the samples that it is right about are drawn. Failures whose
    picture is there are left out. across: group all failures at once. Raises `UserError` for failures of another model,
    or where none is left, and where the model is right about no sample.
    """
    expect_own(subject, failures)
    began, settings = time.monotonic(), tuning or TypeTuning(seed=seed)
    options = scored.units.work.recipe.options
    store = open_store(failures.about["root"], options)
    given = _read(subject, failures, scored, store, seed)
    vectors = failure_gradients(subject, given.pictures, options)
    fitted = torch.tensor([row["part"] in FITTED for row in given.rows])
    tuner = GroupTuner(
        lambda: TunedClassifier.of(subject, options=options), given.pictures.take(fitted.nonzero()[:, 0]),
        given.pictures.take((~fitted).nonzero()[:, 0]), given.right, given.judges, settings,
    )  # fmt: skip
    facts = {"model": subject.weights.sha256, "failures": digest(failures.table.to_pylist()), **tuner.facts()}
    with progress("Tuning on groups of failures", None, "groups") as tick:

        def measure(group: FailureGroup) -> TunedRow:
            row = committed(group)
            tick(1)
            return row

        committed = CommittedRows(folder / ROWS, tuner, facts)
        sides = find_sides(given.rows, vectors, measure, projection=projection, across=across, seed=seed)
    types = {uid: group for side in sides for group in side.groups for uid in (*group.members, *group.held_out)}
    names = _names(subject, sides, given, store, scored)
    features = [tower_features(subject, pictures, options) for pictures in (given.pictures, given.right)]
    rows = [row | {"type": types[row["uid"]].name if row["uid"] in types else None} for row in map(dict, given.rows)]
    hashes = read_hashes(store, given.rows, scored.units.work.recipe.decoding)
    members = pa.Table.from_pylist([row | {"phash": one} for row, one in zip(rows, hashes, strict=True)]).select(
        MEMBER_SCHEMA.names
    )
    about = {
        "version": VERSION, **subject.facts(), "failures": dict(failures.about), "projection": projection,
        "across": across, "seed": seed, "tuning": asdict(settings), "left_out": dict(given.left_out),
    }  # fmt: skip
    document = {
        **about, "right": len(given.right), "judges": len(given.judges),
        "sides": [side_document(side, seed) for side in sides],
        "types": [_type_document(side, group, names[group.name]) for side in sides for group in side.groups],
        "rows": {name: _row_document(row) for side in sides for name, row in side.rows.items()},
        "seconds": time.monotonic() - began,
    }  # fmt: skip
    return FoundTypes(document, members.cast(MEMBER_SCHEMA), _queries(document, rows, *features))


def failure_gradients(subject: Subject, pictures: LabelledPictures, options: StoreOptions | None = None) -> Tensor:
    """Return sketches of the gradients of the losses with the expected answers, of length 1, float32 `[N, D]`."""
    classifier = TunedClassifier.of(subject, options=options)
    sketch = GradientSketch(classifier.module, class_losses, numbers=subject.numbers, seed=subject.seed)
    pairs = zip(torch.split(pictures.pixels, CHUNK), torch.split(pictures.targets, CHUNK), strict=True)
    parts = [sketch(classifier.normalise(pixels), targets) for pixels, targets in pairs]
    return normalize(torch.cat([torch.zeros(0, sketch.width), *parts]), dim=1)


def _read(subject: Subject, failures: Failures, scored: SubjectScores, store: Store, seed: int) -> _Given:
    """Read the failures that are none of the training data and still wrong, and draw samples that are right."""
    rows = failures.table.to_pylist()
    fresh = unseen(rows, scored)
    left_out = Counter({"in_training_data": len(rows) - len(fresh), "beyond_limit": max(0, len(fresh) - MOST_FAILURES)})
    rows, options = fresh[:MOST_FAILURES], scored.units.work.recipe.options
    pictures, others = still_wrong(TunedClassifier.of(subject, options=options), subject, rows, scored, store)
    left_out.update(others)
    by_uid = {row["uid"]: row for row in rows}
    if not len(pictures):
        about = (
            ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.items()) if count) or "none is given"
        )
        fix = "find failures in data that the model was not trained on: curate diagnose failures"
        raise UserError(f"no failure is left to group: {about}", fix=fix)
    drawn = draw_right(subject, scored, RIGHT + JUDGES, seed=seed, without=by_uid.__contains__)
    right, _ = labelled_pictures(subject, drawn, scored)
    if len(right) < 2:
        text = "the model is right about no sample of the data: nothing can be mixed in, or judge"
        raise UserError(text, fix="name the data that the model was trained on, with its labels")
    order = np.random.default_rng(seed).permutation(len(right))
    judges = min(JUDGES, len(right) // 3 + 1)
    place = {row["uid"]: row for row in drawn}
    mixed = right.take(torch.from_numpy(order[judges:]))
    return _Given(
        [by_uid[uid] for uid in pictures.uids], pictures, [place[uid] for uid in mixed.uids], mixed,
        right.take(torch.from_numpy(order[:judges])), {name: count for name, count in left_out.items() if count},
    )  # fmt: skip


def _names(
    subject: Subject, sides: Sequence[Side], given: _Given, store: Store, scored: SubjectScores
) -> dict[str, str]:
    """Return the name of each type, by its number."""
    texts = dict(zip((row["uid"] for row in given.rows), read_texts(store, given.rows), strict=True))
    others = [_terms(subject, text) for text in read_texts(scored.units.work.corpus.store(), given.right_rows)]
    return {
        group.name: name_of(
            side.expected, side.guess,
            distinct_terms([_terms(subject, texts[uid]) for uid in (*group.members, *group.held_out)], others),
        )
        for side in sides
        for group in side.groups
    }  # fmt: skip


def _terms(subject: Subject, text: SampleTexts) -> frozenset[str]:
    return terms_of(text.caption, text.fields, (subject.label,))


def _type_document(side: Side, group: FailureGroup, name: str) -> dict[str, Any]:
    """Return what is known of one type. A type is validated if its held-out failures were judged."""
    place = [one.name for one in side.groups].index(group.name)
    own = side.a[place][place]
    sizes = {"members": len(group.members), "held_out": len(group.held_out)}
    about = {"type": group.name, "name": name, "expected": side.expected, "guess": side.guess, **sizes}
    return {**about, "learned": own, "validated": own is not None}


def _row_document(row: TunedRow) -> dict[str, Any]:
    return {"kept": row.kept, "stopped": row.stopped, "steps": row.steps, "seconds": row.seconds}


def _queries(document: Mapping[str, Any], rows: Rows, features: Tensor, right: Tensor) -> pa.Table:
    """Return the queries of validated types."""
    found = []
    for one in document["types"]:
        own = [place for place, row in enumerate(rows) if row["type"] == one["type"] and row["part"] in FITTED]
        if one["validated"] and own:
            found += query_rows(one["type"], features[own], right)
    return pa.Table.from_pylist(found, schema=QUERY_SCHEMA)


def write_types(found: FoundTypes, folder: Path) -> None:
    """Write `types.parquet`, `queries.parquet` and, last, `types.json` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (("types", found.members), ("queries", found.queries)):
        part = folder / f"{name}.parquet.part"
        pq.write_table(table, part, compression="zstd")
        part.replace(folder / f"{name}.parquet")
    part = folder / "types.json.part"
    part.write_text(json.dumps(found.document, indent=2, sort_keys=True) + "\n")
    part.replace(folder / "types.json")
