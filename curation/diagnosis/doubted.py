"""The first samples of a trace as the items of a review queue, so that a person decides what is dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from curation.core.digest import digest
from curation.core.progress import Tick
from curation.curating.ranged_pictures import SOURCE
from curation.curating.ranked_samples import RANKED_SCHEMA
from curation.diagnosis.subject import Subject, SubjectScores
from curation.review.candidates import items_of
from curation.review.queue import Queue, create_queue


def queue_of_trace(
    url: str, document: Mapping[str, Any], subject: Subject, scored: SubjectScores, *, budget: int,
    current_votes: int = 1, tick: Tick = lambda n: None,
) -> Queue:  # fmt: skip
    """Create a queue of the samples of a trace's document, in its order, or find the one that is there.

    budget: answers to pay for. current_votes: votes of the label that a sample has. Cost: a ranged read and a decode a
    sample. Raises `UserError` where another queue is at the URL.
    """
    work = scored.units.work
    columns = {
        "uid": [row["uid"] for row in document["top"]],
        **{name: [row[name] for row in document["top"]] for name in SOURCE},
        "caption": [row["caption"] for row in document["top"]],
        "priority": [row["score"] for row in document["top"]],
        "posterior": [None] * len(document["top"]),
    }
    ranked = pa.table([pa.array(columns[part.name], part.type) for part in RANKED_SCHEMA], schema=RANKED_SCHEMA)
    limits = work.recipe.decoding
    items, classes = items_of(ranked, work.corpus.store(), subject.label, subject.classes, limits, tick)
    pin = {"by": f"trace {document['method']}", "recipe_sha256": digest({**document, "top": None})}
    about = {
        "budget": budget, "classes": classes, "label": subject.label, "current_votes": current_votes, "ranking": pin,
        "corpus": work.corpus.store().url, "limits": {**asdict(limits), "formats": list(limits.formats)},
    }  # fmt: skip
    return create_queue(url, about, items, work.recipe.options)
