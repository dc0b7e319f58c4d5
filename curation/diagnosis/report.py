"""What a diagnosis found, gathered from the folders of its commands: failures, traces, types, repairs, erasures.

A document that is missing is no error: the report says which claims were not shown. Reads JSON documents of a few
kilobytes and the file of failures; no data.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.core.errors import NotFoundError, UserError
from curation.diagnosis.failures import SHARES, Failures
from curation.storage.store import Store, StoreOptions, open_store

FILES = {"trace.json": "trace", "types.json": "types", "card.json": ""}  # "": its `kind` says what it is
KINDS = ("trace", "types", "repair", "erase")
TUNED = ("repair", "erase")


@dataclass(frozen=True)
class DiagnosisReport:
    """The documents of a diagnosis by kind, and its failures."""

    failures: Failures
    documents: Mapping[str, Mapping[str, Any]]

    @property
    def parts(self) -> dict[str, int]:
        """Failures by part."""
        return {part: self.failures.part(part).num_rows for part in SHARES}

    @property
    def sides(self) -> list[tuple[str, str, int]]:
        """Expected answer, guess and number of failures, most first."""
        pairs = zip(*(self.failures.table.column(name).to_pylist() for name in ("expected", "guess")), strict=True)
        return [(*pair, count) for pair, count in sorted(Counter(pairs).items(), key=lambda one: (-one[1], one[0]))]

    def not_shown(self) -> list[str]:
        """Return a line for each claim that the documents do not show."""
        return list(_not_shown(self.documents))

    def costs(self) -> list[dict[str, Any]]:
        """Return what each tuning cost, and what training again did: name, FLOPs, seconds; None where unknown."""
        found = []
        for kind in TUNED:
            document = self.documents.get(kind, {})
            for name, one in document.get("strategies", {}).items():
                found.append({"name": f"{kind}: {name}" if name != kind else name, **_cost(one)})
            if document.get("retrained"):
                found.append({"name": "training again without the samples", **_cost(document["retrained"])})
        return found


def _cost(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record.get(name) for name in ("flops", "seconds")}


def gather(failures: Failures, folders: Sequence[str], options: StoreOptions | None = None) -> DiagnosisReport:
    """Read the documents in some folders. Raises `UserError` for a folder without one, or of another model."""
    found: dict[str, Mapping[str, Any]] = {}
    for url in folders:
        documents = dict(_documents(open_store(url, options), url))
        if not documents:
            names = ", ".join(FILES)
            fix = "name the --out folders of `curate diagnose trace|types|repair|erase`"
            raise UserError(f"{url} holds none of {names}", fix=fix)
        for kind, document in documents.items():
            own = document.get("sha256") if kind not in TUNED else document.get("parent", {}).get("sha256")
            if own != failures.about["sha256"]:
                text = f"the {kind} in {url} is of the model {str(own)[:16]}, not of {failures.about['sha256'][:16]}"
                raise UserError(text, fix="name the folders of one model")
            if kind in found:
                raise UserError(f"{url} holds another {kind} than a folder before it", fix="name one of them")
            found[kind] = document
    return DiagnosisReport(failures, found)


def _documents(store: Store, url: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, kind in FILES.items():
        try:
            document = json.loads(store.get(key))
        except NotFoundError:
            continue
        except ValueError:
            document = None
        name = kind or (document.get("kind") if isinstance(document, dict) else None)
        if not isinstance(document, dict) or name not in KINDS or document.get("version") != 1:
            raise UserError(f"{url}/{key} is no document of a diagnosis", fix="repeat the command that wrote it")
        yield name, document


def _not_shown(documents: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if "trace" not in documents:
        yield "Which training samples made the model fail: no trace was made."
    elif not documents.get("erase", {}).get("retrained"):
        yield "That the traced samples made the model fail: it is predicted. Training again without them would show it."
    types = documents.get("types")
    if types is None:
        yield "Which kinds of failure there are: no types were looked for."
    else:
        for side in types["sides"]:
            yield from (f"{side['expected']} as {side['guess']}: {text}." for text in side["not_shown"])
    for kind, what in (("repair", "That tuning on failures repairs the model"),
                       ("erase", "That the model can forget the traced samples")):  # fmt: skip
        if kind not in documents:
            yield f"{what}: not tried."
    if "erase" in documents and not documents["erase"].get("retrained"):
        yield "That erasing does what training again would do: nothing was trained again (--retrain)."
