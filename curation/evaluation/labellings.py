"""Labellings of an evaluation set: its labels as they are stored, or with edit lists applied.

    before                the labels as stored
    after                 with the edit lists of `--edits` applied
    NAME=LIST             with the edit list at a URL applied
    NAME=stored           the labels as stored, under another name

Of an edit list, two verbs change a labelling: `replace` of the label's field, and `drop`, which leaves the sample out.
An edit whose `from` differs from the stored label is stale: it is counted and not applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.core.errors import UserError
from curation.ledger.edit_lists import json_value, read_edit_list
from curation.ledger.edit_merging import merge
from curation.storage.store import StoreOptions

STORED = "stored"
#: Why a sample does not count under a labelling; the last: a table of probabilities has none, or bad ones.
NO_LABEL, UNKNOWN_CLASS, DROPPED, NO_GUESS = "no_label", "unknown_class", "dropped", "no_guess"

#: Labellings as a caller names them: text such as `before,after`, or the edit lists of each name (None: as stored).
Labels = str | Sequence[str] | Mapping[str, str | Sequence[str] | None]


@dataclass(frozen=True)
class Labelling:
    """A name, and the URLs of the edit lists that are applied; none for the stored labels."""

    name: str
    lists: tuple[str, ...] = ()

    def edits(self, options: StoreOptions | None = None) -> pa.Table | None:
        """Read and merge the lists; None for the stored labels. Raises `EditListError`."""
        named = [(url, read_edit_list(url, options).table) for url in self.lists]
        return merge(named) if named else None


@dataclass
class Relabelled:
    """The labels of N samples under a labelling, and what was done for it.

    labels: None where a sample has no label. left_out: samples by the reason for which they have none. replaced: labels
    that changed. stale: edits that were not applied, since the stored label is not their `from`. unknown: edits of
    samples that are not here.
    """

    labels: list[str | None]
    replaced: int = 0
    stale: list[dict[str, str | None]] = field(default_factory=list)
    unknown: int = 0
    left_out: dict[str, int] = field(default_factory=dict)


def labellings(labels: Labels, edits: Sequence[str] = ()) -> list[Labelling]:
    """Return the labellings that a caller names. edits: URLs of the lists that `after` applies.

    Raises `UserError` for a name without labels, a repeated name, or edits that no labelling applies.
    """
    found = _of_mapping(labels) if isinstance(labels, Mapping) else _of_text(labels, tuple(edits))
    names = [one.name for one in found]
    if not found or len(set(names)) < len(names) or not all(names):
        raise UserError(f"the labellings {', '.join(names) or 'none'} have no names that differ", fix="before,after")
    if edits and not any(one.lists == tuple(edits) for one in found):
        raise UserError(f"no labelling applies the edits {edits[0]}", fix="name the labelling `after`")
    return found


def _of_mapping(labels: Mapping[str, str | Sequence[str] | None]) -> list[Labelling]:
    return [
        Labelling(name, () if lists is None else (lists,) if isinstance(lists, str) else tuple(lists))
        for name, lists in labels.items()
    ]


def _of_text(labels: str | Sequence[str], edits: tuple[str, ...]) -> list[Labelling]:
    entries = [part.strip() for text in ([labels] if isinstance(labels, str) else labels) for part in text.split(",")]
    found = []
    for entry in entries:
        name, given, lists = (part.strip() for part in entry.partition("="))
        if given:
            if not lists:
                raise UserError(f"the labelling {name} names no edit list", fix=f"{name}=edits.parquet")
            found.append(Labelling(name, () if lists == STORED else (lists,)))
        elif name == "before":
            found.append(Labelling(name))
        elif name == "after" and edits:
            found.append(Labelling(name, edits))
        else:
            fix = "--edits LIST" if name == "after" else f"{name}=edits.parquet, or {name}=stored"
            raise UserError(f"the labelling {name or repr(name)} names no labels", fix=fix)
    return found


def relabelled(uids: Sequence[str], stored: Sequence[str], edits: pa.Table | None, label: str) -> Relabelled:
    """Return the labels of samples under a labelling. stored: "" for none. label: the field of the json."""
    found = Relabelled([text or None for text in stored])
    if edits is None:
        return found
    rows = {uid: row for row, uid in enumerate(uids)}
    for uid, value, before in _edits_of(edits, label):
        row = rows.get(uid)
        if row is None:
            found.unknown += 1
        elif value is None:
            found.labels[row] = None
            found.left_out[DROPPED] = found.left_out.get(DROPPED, 0) + 1
        elif before is not None and label_text(json_value(before)) != stored[row]:
            found.stale.append({"uid": uid, "expected": label_text(json_value(before)), "present": stored[row]})
        elif (text := label_text(json_value(value)) or None) != found.labels[row]:
            found.labels[row] = text
            found.replaced += 1
    return found


def _edits_of(edits: pa.Table, label: str) -> list[tuple[str, str | None, str | None]]:
    """Return uid, value and `from` of the edits that change labels; no value for a drop. Drops come last."""
    replaces = pc.and_(pc.equal(edits.column("verb"), "replace"), pc.equal(edits.column("field"), label))
    table = edits.filter(pc.fill_null(replaces, False))
    found = list(zip(*(table.column(name).to_pylist() for name in ("uid", "value", "from")), strict=True))
    dropped = edits.filter(pc.equal(edits.column("verb"), "drop")).column("uid").to_pylist()
    return [*found, *((uid, None, None) for uid in dropped)]


def restrict(found: Relabelled, classes: Sequence[str]) -> None:
    """Leave out the samples without a label and those whose label is none of the classes, and count both."""
    known = set(classes)
    missing = found.labels.count(None) - found.left_out.get(DROPPED, 0)
    unknown = sum(label is not None and label not in known for label in found.labels)
    found.labels = [label if label in known else None for label in found.labels]
    found.left_out |= {reason: n for reason, n in ((NO_LABEL, missing), (UNKNOWN_CLASS, unknown)) if n}


def label_text(value: Any) -> str:
    """Return a label as a model's classes name it, like `loader.SampleStream`: "" for a list, an object or null."""
    return "" if value is None or isinstance(value, list | dict) else str(value)
