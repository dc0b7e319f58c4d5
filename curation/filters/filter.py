"""What a filter is: the query that names the samples that leave, and what some filters have to say besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import duckdb

    from curation.storage.pinned_file import PinnedFile


def table_of(item: Any, prefix: str) -> str:
    """A name for a table that a filter makes, by all of its fields: two that differ don't share one."""
    return table_by(astuple(item), prefix)


def table_by(values: tuple[Any, ...], prefix: str) -> str:
    """A name for a table that these values decide: whoever has the same shares it."""
    return f"{prefix}_{sha256(repr(values).encode()).hexdigest()[:16]}"


@runtime_checkable
class Filter(Protocol):
    """What the decision engine needs of a filter, which is a frozen dataclass.

    Its fields are what the recipe says of it. Where its code comes to decide otherwise for the same fields, it has a
    `code: ClassVar[int] = 2`, and so on: snapshots that the old one made are then made anew.
    """

    def columns(self) -> Sequence[str]:
        """The columns it reads: names of the index (see `units.INDEX_SCHEMA`) or of the recipe's scores.

        A vector is a blob of halves; only filters' vectors are loaded, 2 bytes a dimension of local disk.
        """
        ...

    def drops(self) -> str:
        """SQL that selects `id, detail` of the rows to drop from `alive(id, uid, <columns>)`, each of them once.

        `id` counts the samples in source order. The reason in the manifest is `<filter's name>.<detail>`, or the
        name alone where detail is empty. A score may be called as anything: in a join, say of each column whose it is.
        """
        ...


@runtime_checkable
class PreparingFilter(Protocol):
    """A filter that needs more than a query: it makes the temporary tables that its query reads."""

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Called once, when `alive` is what it will be for `drops`."""
        ...


@runtime_checkable
class ScoreCuttingFilter(Filter, Protocol):
    """A filter whose field `score` names the column that it cuts: samples near its limits are what-if's examples.

    Examples of one that is a part of another filter are those that it drops with the column's name as detail, or none.
    """

    score: str

    def limits(self) -> Sequence[float]:
        """The limits; none where the data decide one, and what is dropped is lower than what stays."""
        ...


@runtime_checkable
class ComparingFilter(Protocol):
    """A filter that compares with what other snapshots keep. The engine fills its table before `prepare`."""

    against: tuple[str, ...]  # URLs of snapshots: `URL`, the latest, or `URL@N`

    def compared(self) -> Sequence[str]:
        """Columns, among those it reads, that the others must have with the same fingerprints."""
        ...

    def others(self) -> str:
        """The name of the table: snapshot (a place in `against`), uid, content_hash, and `compared`."""
        ...

    def matches(self) -> str:
        """SQL of `id, how, snapshot, other, value`: which sample of the others each one that leaves is like."""
        ...


@runtime_checkable
class DuplicateFilter(Filter, Protocol):
    """A filter that drops a sample because of another one, which stays: the two form a group, with all of its others.

    The engine asks for `copies` in the place of `drops`, and reports the largest groups.
    """

    def copies(self) -> str:
        """SQL of `id, detail` as for `drops`, and `stays`: the id of the sample because of which each leaves."""
        ...


@runtime_checkable
class FileReadingFilter(Protocol):
    """A filter that reads files, such as lists of words."""

    def files(self) -> Sequence[PinnedFile]:
        """The files, each with its sha256. They are looked for before anything runs."""
        ...


@runtime_checkable
class WeightingFilter(Protocol):
    """A filter that gives what it keeps a weight: to make up for what it drops, or how often it was drawn."""

    def weighs(self) -> str | None:
        """SQL that selects `id, weight` of rows of `alive`, each id once, or nothing where the settings say so.

        Other rows weigh 1, and so do samples on the keep list, which nothing drops; the weights of several filters and
        of a list of weights are multiplied.
        """
        ...
