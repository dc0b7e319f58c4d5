"""The document of a trace, `trace.json`: what was asked, and each of the first samples beside the failures it explains.

Places of the samples are recorded, so that a report shows their pictures without another pass over the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curation.curating.ranged_pictures import SOURCE
from curation.diagnosis.failures import Failures
from curation.diagnosis.pictures import rows_of
from curation.diagnosis.subject import Subject, SubjectScores
from curation.diagnosis.tracing import TracedFailures
from curation.models.weights import Weights

VERSION = 1
EXPLAINED = 3  # failures that a sample is shown beside


def trace_document(
    subject: Subject, failures: Failures, scored: SubjectScores, found: TracedFailures, *, method: str, part: str,
    data: str, checkpoints: Sequence[Weights] = (), seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Return the document. Arguments as of `trace_failures`; data: URL. Cost: one pass over uids and labels."""
    known = {str(row["uid"]): row for row in rows_of(scored, set(found.trace.uids))}
    return {
        "version": VERSION,
        "kind": "trace",
        **subject.facts(),
        "classes": list(subject.classes),
        "checkpoints": [one.sha256 for one in checkpoints],
        "data": data,
        "root": scored.units.work.corpus.store().url,
        "method": method,
        "seed": seed,
        "part": part,
        "failures": len(found.failures),
        "failures_of": failures.about["data"],
        "left_out": dict(found.left_out),
        "samples": found.trace.samples,
        "predicted_loss_change": found.trace.predicted,
        "top": [_sample(place, uid, found, known[uid]) for place, uid in enumerate(found.trace.uids)],
    }


def _sample(place: int, uid: str, found: TracedFailures, row: Mapping[str, Any]) -> dict[str, Any]:
    pulls = found.trace.pulls[place]
    first = pulls.argsort(descending=True, stable=True)[:EXPLAINED].tolist()
    return {
        "uid": uid,
        "score": found.trace.scores[place],
        "label": row["expected"],
        "caption": row["caption"],
        **{name: row[name] for name in SOURCE},
        "explains": [found.failures[number] for number in first if pulls[number] > 0],
    }
