"""Erase a list of dropped training samples from a model, and write the weights, their card, and how to train again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from curation.core.errors import UserError
from curation.diagnosis.erase import EraseSettings, erase, expect_few
from curation.diagnosis.failures import Failures
from curation.diagnosis.membership import expect_trained_on, training_of
from curation.diagnosis.outcomes import Outcome, best_of, finished, write_outcome
from curation.diagnosis.pictures import LabelledPictures, labelled_pictures, rows_of
from curation.diagnosis.repair_samples import judge, read_repair_samples
from curation.diagnosis.repairing import about, fingerprint
from curation.diagnosis.retraining import compare, put_recipe, retrain
from curation.diagnosis.stopping import Check
from curation.diagnosis.subject import Subject, SubjectScores
from curation.diagnosis.tuning import TunedClassifier
from curation.ledger.edit_lists import EditList, edit_list
from curation.storage.store import open_store

TRACE = "trace the failures, and name its list: curate diagnose trace"
NAME = "erase"


class Causes(NamedTuple):
    """The samples to erase, with the labels that they were trained with, and drops that are left out, by reason."""

    drops: EditList
    pictures: LabelledPictures
    left_out: dict[str, int]


def erase_samples(
    subject: Subject, failures: Failures, scored: SubjectScores, given: EditList, *, data: str, out: str,
    settings: EraseSettings, recipe: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Erase the samples that an edit list drops from a model, write weights below `out`, and return their card.

    scored: the model's scores of `data`, on which it was trained. recipe: a recipe of `curate learn` for classifiers;
    the model is trained again by it without the samples, and compared. An erasing that finished is read back, and a
    retraining goes on from its checkpoint. Raises `UserError` for weights that were trained on other data, for drops
    that the data do not have or that are more than half of a class, and where no validation failure becomes right
    while every class keeps enough: then neither weights nor card are written.
    """
    options = scored.units.work.recipe.options
    expect_trained_on(subject, data, options)
    causes = read_causes(subject, scored, given)
    uids = set(causes.drops.table.column("uid").to_pylist())
    samples = read_repair_samples(
        subject, failures, scored, right=settings.right, seed=settings.seed, without=uids
    )  # fmt: skip

    def make() -> Outcome:
        return erase(TunedClassifier.of(subject, options=options), samples, causes.pictures, subject.classes, settings)

    store, classes = open_store(out, options), list(subject.classes)
    name = fingerprint(subject, failures, samples, settings, NAME, causes.drops.sha256)
    found = finished(store, NAME, name, subject, make, options)
    if best_of({NAME: Check(**found.record["best"])}, settings.keep, settings.enough) is None:
        text = f"no validation failure becomes right while {settings.keep:.0%} of each class are kept"
        raise UserError(text, fix="look at the drops (curate edits show), trace again, or train again without them")
    store.put("drops.parquet", causes.drops.data)
    command = put_recipe(store, scored, causes.drops, data)
    card: dict[str, Any] = {
        "kind": NAME,
        **about(subject, failures, samples, data, settings),
        "causes": {
            "sha256": causes.drops.sha256,
            "by_class": dict(Counter(classes[target] for target in causes.pictures.targets.tolist())),
            "left_out": causes.left_out,
        },
        "before": judge(TunedClassifier.of(subject, options=options), samples, classes),
        "chosen": NAME,
        "strategies": {NAME: found.record},
        "again": {"command": command},
    }
    if recipe is not None:
        again = retrain(recipe, store, subject)
        card["retrained"] = compare(subject, found, again, samples)
    elif (summary := training_of(subject, options)) is not None:
        cost = {"flops": summary["flops"]["totals"]["full"], "seconds": summary["seconds"]}
        card["again"]["cost_of_the_parent"] = cost
    return write_outcome(store, found, card)


def read_causes(subject: Subject, scored: SubjectScores, given: EditList) -> Causes:
    """Return the samples that a list drops, as the model was trained on them. Raises `UserError`, see `erase_samples`.

    Cost: two passes over labels, and a read of each sample.
    """
    wanted = given.table.filter(pc.equal(given.table.column("verb"), "drop"))
    if not wanted.num_rows:
        raise UserError("the edit list drops no sample", fix=TRACE)
    uids = set(wanted.column("uid").to_pylist())
    rows = rows_of(scored, uids)
    if not rows:
        text = f"the data has none of the {len(uids):,} samples that the edit list drops"
        raise UserError(text, fix=f"--data: the data that was traced; or {TRACE}")
    known = [row for row in rows if row["expected"] in subject.classes]
    pictures, unread = labelled_pictures(subject, known, scored)
    expect_few(pictures, _class_sizes(subject.classes, scored), subject.classes)
    reasons = {"not_in_data": len(uids) - len(rows), "no_label": len(rows) - len(known), **unread}
    if not len(pictures):
        about_them = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()) if count)
        raise UserError(f"no sample of the edit list can be erased: {about_them}", fix=TRACE)
    return Causes(edit_list(wanted), pictures, {reason: count for reason, count in reasons.items() if count})


def _class_sizes(classes: Sequence[str], scored: SubjectScores) -> dict[int, int]:
    counts = Counter[str]()
    for table in scored.tables(["label"]):
        for row in pc.value_counts(table.column("label").cast(pa.string())).to_pylist():
            counts[row["values"]] += row["counts"]
    return {number: counts[name] for number, name in enumerate(classes)}
