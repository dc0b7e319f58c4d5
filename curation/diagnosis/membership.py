"""Whether weights belong to a dataset, as far as files beside them tell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from curation.core.errors import LedgerError, NotFoundError, StoreError, UserError
from curation.diagnosis.subject import Subject
from curation.learning.sources import resolve
from curation.storage.store import StoreOptions, open_store


def expect_trained_on(subject: Subject, data: str, options: StoreOptions | None = None) -> None:
    """Raise `UserError` if the summary beside the weights names other data than `data`.

    Data are compared by the content of their shards, so that a copy is the same. Weights without a summary, and data
    that have gone, are believed: nothing is known then. Cost: a listing of each dataset.
    """
    named = _named(subject, options)
    if not named:
        return
    own = resolve(data, options or StoreOptions()).sha256
    for url in named:
        try:
            if resolve(url, options or StoreOptions()).sha256 == own:
                return
        except (UserError, StoreError, LedgerError):
            return  # it has gone, so that it can't be compared
    text = f"{subject.weights.url} was trained on {', '.join(named)}, not on {data}"
    raise UserError(text, fix=f"--data {named[0]}, or name the weights that were trained on {data}")


def training_of(subject: Subject, options: StoreOptions | None = None) -> dict[str, Any] | None:
    """Return the summary of the run that made the weights, from their folder; None where there is none of them."""
    folder = open_store(subject.weights.url.rpartition("/")[0] or ".", options)
    try:
        found = json.loads(folder.get("summary.json"))
    except (NotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("sha256") == subject.weights.sha256 else None


def _named(subject: Subject, options: StoreOptions | None) -> Sequence[str]:
    found = (training_of(subject, options) or {}).get("data")
    return [url for url in found if isinstance(url, str)] if isinstance(found, list) else []
