"""Tables of votes: a row a sample, with a list `votes`, or with a column a class.

`votes` is a list of numbers in the order of the queue's classes, or a list of class names in the order in which they
were given. Rows of other samples are left out. Cost: the table in memory once; the rows of the queue's samples stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.core.errors import NotFoundError, ReasonError, UserError
from curation.storage.parquet import read_parquet
from curation.storage.store import open_object

VOTES = "votes"
_FIX = "write a Parquet table with the columns uid and votes, or uid and one column for each class"

Numbers = npt.NDArray[np.float64]


@dataclass
class VoteTable:
    """The votes of some samples. `ordered`: uid -> names in the order given; `numbers`: uid -> a number a class.

    `flaws`: uid -> reason and detail, of samples whose votes can't be used.
    """

    ordered: dict[str, list[str]] = field(default_factory=dict)
    numbers: dict[str, Numbers] = field(default_factory=dict)
    flaws: dict[str, tuple[str, str]] = field(default_factory=dict)

    def expect(self, uid: str) -> None:
        """Raise `ReasonError` if the sample has no votes that can be used."""
        if uid in self.flaws:
            raise ReasonError(*self.flaws[uid])
        if uid not in self.numbers and uid not in self.ordered:
            raise ReasonError("no_votes", "the table of votes has no row for this sample")


def read_columns(url: str, option: str) -> pa.Table:
    """Read a table. option: what names it, in errors. Raises `UserError` if it is gone, damaged or without a uid."""
    store, key = open_object(url)
    try:
        table = read_parquet(store, key, _FIX)
    except NotFoundError:
        raise UserError(f"{option}: {url} does not exist", fix="check the URL") from None
    if "uid" not in table.column_names or not pa.types.is_string(table.schema.field("uid").type):
        raise UserError(f"{option}: {url} has no column of uids", fix=_FIX)
    return table


def read_votes(url: str, option: str, classes: Sequence[str], uids: Sequence[str]) -> VoteTable:
    """Read the votes of these samples. Raises `UserError` for a table that does not fit the classes."""
    return votes_of(read_columns(url, option), option, url, classes, uids)


def votes_of(table: pa.Table, option: str, url: str, classes: Sequence[str], uids: Sequence[str]) -> VoteTable:
    """Return the votes of these samples in a table. Raises `UserError` for one that does not fit the classes."""
    table = table.filter(pc.is_in(table.column("uid"), value_set=pa.array(uids, pa.string())))
    found = VoteTable()
    if VOTES in table.column_names:
        kind = table.schema.field(VOTES).type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            raise UserError(f"{option}: the column {VOTES} of {url} is {kind}, not a list", fix=_FIX)
        names = pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type)
        add = _add_names if names else _add_numbers
    else:
        missing = [name for name in classes if name not in table.column_names]
        if missing:
            more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
            raise UserError(f"{option}: {url} has no column for the class {missing[0][:80]!r}{more}", fix=_FIX)
        add = _add_numbers
    for uid, row in _rows(table, classes):
        if uid in found.numbers or uid in found.ordered or uid in found.flaws:
            raise UserError(f"{option}: {url} has two rows for uid {uid}", fix="leave one of them out")
        add(found, uid, row, classes)
    return found


def _rows(table: pa.Table, classes: Sequence[str]) -> Iterator[tuple[str, list[object] | None]]:
    for batch in table.to_batches(max_chunksize=10_000):
        if VOTES in table.column_names:
            yield from zip(batch.column("uid").to_pylist(), batch.column(VOTES).to_pylist(), strict=True)
        else:
            columns = [batch.column(name).to_pylist() for name in classes]
            yield from zip(batch.column("uid").to_pylist(), map(list, zip(*columns, strict=True)), strict=True)


def _add_names(found: VoteTable, uid: str, row: Sequence[object] | None, classes: Sequence[str]) -> None:
    names = [str(name) for name in row or ()]
    unknown = next((name for name in names if name not in classes), None)
    if not names:
        found.flaws[uid] = ("no_votes", "the list of votes is empty")
    elif unknown is not None:
        found.flaws[uid] = ("unknown_class", f"a vote for {unknown[:80]!r}, which is none of the classes")
    else:
        found.ordered[uid] = names


def _add_numbers(found: VoteTable, uid: str, row: Sequence[object] | None, classes: Sequence[str]) -> None:
    if row is not None and len(row) not in (0, len(classes)):
        text = f"uid {uid} has {len(row)} numbers, and the queue has {len(classes)} classes"
        raise UserError(text, fix="write one number for each class, in the order of the queue's classes")
    try:
        numbers = np.array([np.nan if value is None else value for value in row or ()], np.float64)
    except (TypeError, ValueError):
        numbers = np.array([np.nan])
    if not np.isfinite(numbers).all() or (numbers < 0).any():
        found.flaws[uid] = ("negative_votes", "a number of votes is negative, missing or not a number")
    elif not numbers.sum() > 0:
        found.flaws[uid] = ("no_votes", "all numbers of votes are 0")
    else:
        found.numbers[uid] = numbers


def labels_of(table: pa.Table, option: str, url: str) -> Mapping[str, str]:
    """Return uid -> label of a table with the columns `uid` and `label`."""
    if "label" not in table.column_names:
        raise UserError(f"{option}: {url} has no column label", fix="write a Parquet table of uid and label")
    return dict(zip(table.column("uid").to_pylist(), table.column("label").cast(pa.string()).to_pylist(), strict=True))
