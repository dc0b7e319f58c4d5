"""Tables of the true labels of samples: uid and label, or votes in the forms of `vote_tables`.

Of votes, the truth is the class with the most; a tie has no truth. Cost: the table in memory once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from curation.annotators.vote_tables import VoteTable, labels_of, read_columns, votes_of
from curation.core.errors import UserError

LABEL = "label"


@dataclass(frozen=True)
class TrueLabels:
    """True labels: uid -> label. `flaws`: reason -> number of samples whose row gives no truth."""

    labels: Mapping[str, str]
    flaws: Mapping[str, int] = field(default_factory=dict)


def read_true_labels(url: str, option: str, classes: Sequence[str], uids: Sequence[str]) -> TrueLabels:
    """Read the true labels of these samples. option: what names the table, in errors.

    A sample without a row, or whose row gives no truth, has no label. Raises `UserError` for a table that can't be
    used, that has two rows for a sample, or that has no row for any of the samples.
    """
    table = read_columns(url, option)
    if LABEL in table.column_names:
        found = _labels(table, option, url, uids)
    else:
        found = _judged(votes_of(table, option, url, classes, uids), classes)
    if uids and not found.labels:
        fix = "name a table with the uids of `curate review export QUEUE --format csv`"
        raise UserError(f"{option}: {url} has no true label for any of {len(uids):,} samples", fix=fix)
    return found


def _labels(table: pa.Table, option: str, url: str, uids: Sequence[str]) -> TrueLabels:
    table = table.select(["uid", LABEL])
    table = table.filter(pc.is_in(table.column("uid"), value_set=pa.array(uids, pa.string())))
    labels = labels_of(table, option, url)
    if len(labels) < table.num_rows:
        twice = Counter(table.column("uid").to_pylist()).most_common(1)[0][0]
        raise UserError(f"{option}: {url} has two rows for uid {twice}", fix="leave one of them out")
    known = {uid: label for uid, label in labels.items() if label}
    return TrueLabels(known, _counted(missing_label=len(labels) - len(known)))


def _judged(table: VoteTable, classes: Sequence[str]) -> TrueLabels:
    labels, flaws = dict[str, str](), Counter(reason for reason, _ in table.flaws.values())
    for uid, names in table.ordered.items():
        _add(labels, flaws, uid, Counter(names))
    for uid, numbers in table.numbers.items():
        _add(labels, flaws, uid, Counter(dict(zip(classes, numbers.tolist(), strict=True))))
    return TrueLabels(labels, dict(flaws))


def _add(labels: dict[str, str], flaws: Counter[str], uid: str, counts: Counter[str]) -> None:
    (first, most), *others = counts.most_common(2)
    if others and others[0][1] == most:
        flaws["tied_votes"] += 1
    else:
        labels[uid] = first


def _counted(**flaws: int) -> dict[str, int]:
    return {reason: count for reason, count in flaws.items() if count}
