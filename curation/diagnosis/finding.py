"""Find failures: samples that a model gets wrong, among labelled data or among samples with expected answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import torch

from curation.core.errors import UserError
from curation.curating.ranged_pictures import read_pictures
from curation.diagnosis.failures import SCHEMA, Failures, split
from curation.diagnosis.judged_data import JudgedData, JudgedPart
from curation.diagnosis.pictures import rows_of
from curation.diagnosis.subject import Subject, SubjectScores
from curation.diagnosis.tuning import JUDGED, TunedClassifier
from curation.evaluation.labellings import relabelled
from curation.models.architecture import preprocess_for
from curation.storage.urls import absolute_url

ALL = JudgedPart()


class FoundFailures(NamedTuple):
    """The failures, the number of samples that were judged, and what is no failure, by reason."""

    failures: Failures
    judged: int
    refused: Mapping[str, int]


def find_failures(
    subject: Subject, data: str, scored: SubjectScores, *, expected: Mapping[str, str] | None = None,
    corrected: Mapping[str, str | None] | None = None, part: JudgedPart = ALL, where: Mapping[str, str] | None = None,
    seed: int = 0,
) -> FoundFailures:  # fmt: skip
    """Return the samples whose most probable class is not the expected one, split in three parts.

    expected: uid -> the answer that was expected, of samples with or without a label; None: all samples whose label is
    not the guess. corrected: uid -> another label than the stored one, or None for a sample that is left out. part: the
    samples that failures are looked for among. where: `expected` or `guess` -> the class that a failure has there.
    seed: of the parts. Raises `UserError` where no failure is left.
    """
    counts: Counter[str] = Counter()
    known = corrected or {}
    answers = {uid: label for uid, label in known.items() if label is not None} if expected is None else expected
    candidates = _given(subject, scored, answers, part, counts)
    if expected is None:
        candidates = chain(_by_label(scored, part, list(known), counts), candidates)
    rows = []
    for row in candidates:
        if row["expected"] == row["guess"]:
            counts["right"] += 1
        elif row["expected"] not in subject.classes:
            counts["unknown_class"] += 1
        elif all(row[name] == value for name, value in (where or {}).items()):
            rows.append(row)
    judged = counts.pop("judged", 0)
    if expected is None:
        counts.pop("right", None)
    if not rows:
        about = "".join(f", {count:,} {reason}" for reason, count in sorted(counts.items()))
        text = f"{data} has no such failure: {judged:,} samples were judged{about}"
        raise UserError(text, fix="name other data, other uids, or another --where")
    parts = split([row["uid"] for row in rows], [row["phash"] for row in rows], seed)
    table = pa.Table.from_pylist([{**row, "part": part} for row, part in zip(rows, parts, strict=True)], schema=SCHEMA)
    root = scored.units.work.corpus.store().url
    about_data = {"data": absolute_url(data), "root": root, "seed": seed}
    return FoundFailures(Failures(table.sort_by("uid"), {**subject.facts(), **about_data}), judged, dict(counts))


def _by_label(
    scored: SubjectScores, part: JudgedPart, corrected: Sequence[str], counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Yield the samples whose label is not the guess; count all that have both. Corrected ones are left out."""
    edited = pa.array(corrected, pa.string())
    for table in scored.tables(["prediction", "label", "phash", *part.columns]):
        guess = pc.struct_field(table.column("prediction"), "guess")
        known = table.append_column("guess", guess).append_column("expected", table.column("label"))
        known = known.filter(pc.is_valid(guess)).drop_columns(["prediction", "label"])
        if corrected:
            known = known.filter(pc.invert(pc.is_in(known.column("uid"), edited)))
        if part.share:
            known = known.filter(pa.array(map(part.has, known.to_pylist()), pa.bool_()))
        counts["judged"] += known.num_rows
        yield from known.filter(pc.not_equal(known.column("expected"), known.column("guess"))).to_pylist()


def _given(
    subject: Subject, scored: SubjectScores, expected: Mapping[str, str], part: JudgedPart, counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Yield the given samples that the data has, with the guess of the model, which reads their pictures."""
    if not expected:
        return
    wanted = pa.array(list(expected), pa.string())
    rows: list[dict[str, Any]] = []
    for table in scored.tables(["phash", *part.columns]):
        rows += table.filter(pc.is_in(table.column("uid"), wanted)).to_pylist()
    if missing := len(expected) - len({row["uid"] for row in rows}):
        counts["not_in_data"] = missing
    rows = [row for row in rows if part.has(row)]
    work, view = scored.units.work, preprocess_for(subject.model)
    classifier = TunedClassifier.of(subject, options=work.recipe.options)
    for start in range(0, len(rows), JUDGED):
        some = rows[start : start + JUDGED]
        pixels, unread = read_pictures(work.corpus.store(), some, view, work.recipe.decoding)
        counts.update(unread.values())
        with torch.inference_mode():
            guesses = classifier.logits(torch.from_numpy(pixels)).argmax(1).tolist()
        for place, (row, guess) in enumerate(zip(some, guesses, strict=True)):
            if place not in unread:
                counts["judged"] += 1
                yield {**row, "expected": expected[row["uid"]], "guess": subject.classes[guess]}


def corrected_labels(scored: SubjectScores, asked: JudgedData, edits: pa.Table | None) -> dict[str, str | None]:
    """Return uid -> label of the samples whose label the edits change; None for one that they drop.

    Stale edits change nothing. Cost: one pass over the labels.
    """
    if edits is None:
        return {}
    rows = rows_of(scored, set(edits.column("uid").to_pylist()))
    uids, stored = [str(row["uid"]) for row in rows], [str(row["expected"] or "") for row in rows]
    found = relabelled(uids, stored, edits, asked.label).labels
    return {uid: new for uid, old, new in zip(uids, stored, found, strict=True) if new != (old or None)}
