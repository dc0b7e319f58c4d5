"""Trace a file of failures to the samples of a training dataset, and say what to drop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from curation.core.errors import UserError
from curation.curating.ranged_pictures import read_pictures
from curation.curating.ranged_texts import read_texts
from curation.diagnosis.drawn_gradients import drawn_gradients
from curation.diagnosis.failures import Failures
from curation.diagnosis.pictures import expect_own, unseen
from curation.diagnosis.subject import Subject, SubjectScores
from curation.diagnosis.trace import Trace, trace
from curation.gradients import GradientSketch, PairLosses, class_losses
from curation.ledger.edit_lists import EDIT_SCHEMA
from curation.models.architecture import preprocess_for
from curation.models.dual import load_dual_encoder
from curation.models.tokenizer import tokenizer_for
from curation.models.towers import PixelNormaliser
from curation.models.trained_classifier import load_classifier
from curation.models.vectors import read_vectors
from curation.models.weights import Weights
from curation.storage.store import StoreOptions, open_store

MOST_FAILURES = 2048  # of the query whose gradients are computed, by uid


class TracedFailures(NamedTuple):
    """The trace, the uids of the failures that it explains, and the failures that were left out, by reason."""

    trace: Trace
    failures: Sequence[str]
    left_out: Mapping[str, int]


def trace_failures(
    subject: Subject, failures: Failures, scored: SubjectScores, *, method: str, count: int, part: str = "query",
    checkpoints: Sequence[Weights] = (), seed: int = 0, write: Callable[[pa.Table], None] = lambda table: None,
) -> TracedFailures:  # fmt: skip
    """Rank the scored training data by how much it pulled the model towards one part of the failures.

    Failures whose picture is in the training data (by its content hash) are left out, since a model's failure on what
    it was trained on explains itself. Arguments as of `trace`. Raises `UserError` for failures of another model, and
    where none is left.
    """
    expect_own(subject, failures)
    if subject.against is not None and (checkpoints or method == "last_layer"):
        what = "the pairs of `against` have no vectors at earlier weights" if checkpoints else "it has no head"
        raise UserError(
            f"a dual encoder is traced by its own weights: {what}", fix="leave out --checkpoint, last_layer"
        )
    rows = failures.part(part).to_pylist()
    fresh = unseen(rows, scored)
    left_out = +Counter({"in_training_data": len(rows) - len(fresh)})
    rows = fresh[:MOST_FAILURES]
    options = scored.units.work.recipe.options
    view = preprocess_for(subject.model)
    store, limits = open_store(failures.about["root"], options), scored.units.work.recipe.decoding
    pixels, unread = read_pictures(store, rows, view, limits)
    left_out.update(unread.values())
    sound = [place for place in range(len(rows)) if place not in unread]
    if not sound:
        about = ", ".join(f"{number:,} {reason}" for reason, number in sorted(left_out.items())) or "none is given"
        text = f"no failure of the part {part} is left to trace: {about}"
        raise UserError(text, fix="find failures in data that the model was not trained on: curate diagnose failures")
    inputs = PixelNormaliser(view)(torch.from_numpy(pixels[np.array(sound)]))
    if subject.against is None:
        targets = torch.tensor([subject.classes.index(rows[place]["expected"]) for place in sound])
        gradients = [_gradients(subject, file, inputs, targets, options) for file in (subject.weights, *checkpoints)]
    else:
        captions = [text.caption for text in read_texts(store, [rows[place] for place in sound])]
        gradients = [_pair_gradients(subject, inputs, captions, options)]
    found = trace(
        scored.gradients, gradients, method, count=count, last=subject.last_layer, drawn=drawn_gradients(scored, seed),
        write=write,
    )  # fmt: skip
    return TracedFailures(found, [rows[place]["uid"] for place in sound], dict(left_out))


def drops(found: Trace, subject: Subject, method: str) -> pa.Table:
    """Return an edit list that drops the first samples of a trace (`EDIT_SCHEMA`)."""
    by = f"trace {method}@{subject.weights.sha256}"
    rows: list[dict[str, Any]] = [{"uid": uid, "verb": "drop", "by": by} for uid in found.uids]
    return pa.Table.from_pylist(rows, schema=EDIT_SCHEMA)


def _gradients(
    subject: Subject, weights: Weights, inputs: Tensor, targets: Tensor, options: StoreOptions | None
) -> Tensor:
    module, _ = load_classifier(subject.model, weights, options=options)
    sketch = GradientSketch(module, class_losses, numbers=subject.numbers, seed=subject.seed)
    wanted = torch.nn.functional.one_hot(targets, len(subject.classes)).float()  # as the scorer gives labels
    return sketch(inputs, wanted)


def _pair_gradients(subject: Subject, inputs: Tensor, captions: Sequence[str], options: StoreOptions | None) -> Tensor:
    """Return the gradients of pairs' losses among the fixed pairs, as the scorer `gradient` gives them."""
    assert subject.against is not None
    encoder = load_dual_encoder(subject.model, subject.weights, "cpu", options=options)
    others = read_vectors(subject.against, subject.weights.sha256, encoder.device, options)
    sketch = GradientSketch(
        encoder.module, PairLosses.of(encoder.module, *others), numbers=subject.numbers, seed=subject.seed
    )
    return sketch(inputs, tokenizer_for(subject.model)(list(captions)))
