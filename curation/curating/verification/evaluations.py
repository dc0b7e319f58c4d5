"""Checks of a snapshot's evaluations: their names, and their means recomputed from the runs that they contain.

Only means are recomputed: the width of an interval and its verdict depend on the version of the statistics that wrote
them.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

from curation.core.digest import canonical
from curation.core.errors import LedgerError, NotFoundError
from curation.curating.verification.findings import Finding, differing, fields_differ
from curation.curating.verification.repairs import RepairWriter
from curation.dataset.evaluations import CURATED, METRICS
from curation.ledger.documents import read_json
from curation.ledger.documents.learning import Evaluation
from curation.storage.store import Store

TOLERANCE = 1e-9  # a sum in another order differs by less


def check_evaluations(out: Store, number: int, repairs: RepairWriter) -> Iterator[Finding]:
    """Yield the findings of all evaluations of one snapshot. Cost: one listing, and one small GET each."""
    begin = f"evaluations/{number:06d}-"
    for key in sorted(item.key for item in out.list("evaluations", etags=False) if item.key.startswith(begin)):
        found = _read(out, key)
        if found and (elsewhere := _place(found)) != key:
            yield _misplaced(out, key, elsewhere, repairs)
            continue
        expected = _expected(found, number, key.removeprefix(begin).removesuffix(".json")) if found else None
        if expected is None:
            how = "it is moved aside; `curate evaluate` attaches it again and reuses the trained models"
            finding = Finding("evaluation", out.location(key), "is damaged: it can't be read as an evaluation", how)
            yield finding.done(repairs.take_out(out, key))
        elif wrong := differing(expected, found):
            what = fields_differ(wrong, "the values computed from its runs")
            finding = Finding("evaluation", out.location(key), what, "the fields are recomputed")
            yield finding.done(repairs.put(out, key, canonical(expected)))


def _place(found: dict[str, Any]) -> str:
    """Key of an evaluation by its fields."""
    return f"evaluations/{found['snapshot']:06d}-{found.get('identity')}.json"


def _misplaced(out: Store, key: str, elsewhere: str, repairs: RepairWriter) -> Finding:
    """Finding of an evaluation whose key does not follow from its fields: one was edited, or it is a copy."""
    where, what = out.location(key), f"fields `snapshot` and `identity` belong to {elsewhere}"
    if "/" not in elsewhere.removeprefix("evaluations/") and out.exists(elsewhere):
        finding = Finding("evaluation", where, f"{what}, which exists: it is a copy", "it is moved aside")
        return finding.done(repairs.take_out(out, key))
    why = "rename it to that key if it was renamed, or restore it from a backup"
    return Finding("evaluation", where, what, "", why)


def _read(out: Store, key: str) -> dict[str, Any] | None:
    """Read an evaluation as all readers do; None when it is missing or damaged."""
    try:
        return read_json(out, key, Evaluation, "")
    except (LedgerError, NotFoundError):
        return None


def _expected(found: dict[str, Any], number: int, identity: str) -> dict[str, Any] | None:
    """The document as it follows from its key and its runs; None when fields are missing or invalid."""
    right = copy.deepcopy(found)
    try:
        right |= {"snapshot": number, "identity": identity}
        means = {arm: _means(part["runs"]) for arm, part in found["arms"].items()}
        for arm, values in means.items():
            for name, value in values.items():
                _set(right["arms"][arm]["mean"][name], value)
        for arm, values in found["minus"].items():
            if not _paired(found, arm):
                continue
            for name in values:
                _set(right["minus"][arm][name], means[CURATED][name] - means[arm][name])
        json.dumps(right, allow_nan=False)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        return None
    return right if CURATED in means and all(means.values()) else None


def _means(runs: list[dict[str, Any]]) -> dict[str, float]:
    names = [name for name in METRICS if all(name in run for run in runs)]
    return {name: math.fsum(run[name] for run in runs) / len(runs) for name in names}


def _paired(found: dict[str, Any], arm: str) -> bool:
    """Whether the curated arm and `arm` have the same seeds; else the difference is over the seeds that both have."""
    one, other = ({run["seed"] for run in found["arms"][name]["runs"]} for name in (CURATED, arm))
    return one == other


def _set(into: dict[str, Any], value: float) -> None:
    if not math.isclose(into["mean"], value, rel_tol=0, abs_tol=TOLERANCE):
        into["mean"] = value
