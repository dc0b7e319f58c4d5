"""The page of `curate diagnose report`: failures and their types as pictures, the samples behind them, and repairs.

One file that loads nothing. At most `TYPES * MEMBERS + 2 * TRACED` pictures of 144 pixels: 3 MB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.shards.images import DecodeLimits
from curation.shards.sample_reader import SampleReader
from curation.storage.store import StoreOptions, open_store
from jobs.pages.rendering import render
from jobs.pages.sample_pictures import Picture, picture_at

TYPES, MEMBERS = 12, 8  # types with pictures, and pictures of each
TRACED = 24  # training samples with pictures
MOST_CLASSES = 30  # rows of a table of classes


@dataclass(frozen=True)
class FailurePictures:
    """Failures that a page shows: uid -> the failure's row, and its picture."""

    rows: Mapping[str, Mapping[str, Any]]
    pictures: Mapping[str, Picture]


def page(
    report: Any, failures: FailurePictures, traced: Sequence[Picture], members: Mapping[str, Sequence[str]]
) -> str:
    """Return the page. report: a `DiagnosisReport`. traced: pictures of the first samples of the trace, in order.

    members: uids of the failures that a type is shown by, all among `failures`.
    """
    documents = report.documents
    return render(
        "diagnosis_report.html",
        report=report, trace=documents.get("trace"), types=documents.get("types"),
        tuned=[documents[kind] for kind in ("repair", "erase") if kind in documents],
        failures=failures, traced=traced, members=members, most=MOST_CLASSES,
    )  # fmt: skip


def shown_members(uids_of_types: Mapping[str, Sequence[str]], names: Sequence[str]) -> dict[str, list[str]]:
    """Return the first members of the first types. names: of types, in order."""
    return {name: list(uids_of_types.get(name, ()))[:MEMBERS] for name in names[:TYPES]}


def failure_pictures(
    rows: Mapping[str, Mapping[str, Any]], uids: Sequence[str], root: str, limits: DecodeLimits,
    options: StoreOptions | None = None,
) -> FailurePictures:  # fmt: skip
    """Read the pictures of some failures. rows: of all failures, by uid. root: URL of the store that holds them."""
    wanted = [uid for uid in dict.fromkeys(uids) if uid in rows]
    with SampleReader(open_store(root, options)) as reader:
        pictures = {uid: picture_at(reader, rows[uid], limits) for uid in wanted}
    return FailurePictures({uid: rows[uid] for uid in wanted}, pictures)


def traced_pictures(
    document: Mapping[str, Any], limits: DecodeLimits, options: StoreOptions | None = None
) -> list[Picture]:
    """Read the pictures of the first samples of a trace (`trace.json`)."""
    with SampleReader(open_store(document["root"], options)) as reader:
        return [picture_at(reader, row, limits) for row in document["top"][:TRACED]]
