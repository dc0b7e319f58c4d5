"""Protocols of a filter: the query that selects the samples to drop, and optional capabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import duckdb

    from curation.storage.pinned_file import PinnedFile


def table_of(item: Any, prefix: str) -> str:
    """Name for a table that a filter creates, unique to the values of all its fields."""
    return table_by(astuple(item), prefix)


def table_by(values: tuple[Any, ...], prefix: str) -> str:
    """Name for a table that depends on `values` alone; filters with equal values share it."""
    return f"{prefix}_{sha256(repr(values).encode()).hexdigest()[:16]}"


@runtime_checkable
class Filter(Protocol):
    """What the decision engine requires of a filter, a frozen dataclass whose fields are its settings in the recipe.

    When a change of its code changes the decisions for equal fields, set `code: ClassVar[int] = 2`, and so on: the next
    run then decides again instead of reusing a snapshot. Name a field whose default changes no decision in `added:
    ClassVar[tuple[str, ...]]` when you add it.
    """

    def columns(self) -> Sequence[str]:
        """Columns that the filter reads: names of the index (`unit_reader.INDEX_SCHEMA`) or of the recipe's scores.

        A vector column is a blob of float16, which takes 2 bytes a dimension on local disk.
        """
        ...

    def drops(self) -> str:
        """SQL that selects `id, detail` of the rows of `alive(id, uid, <columns>)` to drop, each row once.

        `id` numbers the samples in source order. The reason in the manifest is `<filter's name>.<detail>`, or the
        filter's name where detail is empty. A score may have any name, so qualify every column in a join.
        """
        ...


@runtime_checkable
class PreparingFilter(Protocol):
    """A filter that creates temporary tables for its query."""

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Create the tables. Called once before `drops`, with the same `alive`."""
        ...


@runtime_checkable
class ScoreCuttingFilter(Filter, Protocol):
    """A filter that cuts the column named by its field `score`. `what-if` shows samples near its limits as examples.

    Inside a combination, its examples are the drops with the column's name as detail, if any.
    """

    score: str

    def limits(self) -> Sequence[float]:
        """Limits of the score; empty where the data determine the limit and lower scores are dropped."""
        ...


@runtime_checkable
class RankingFilter(PreparingFilter, Protocol):
    """A filter that orders samples by a priority, from which a review queue is built."""

    def priorities(self) -> str:
        """SQL that selects `id, uid, priority` (DOUBLE) of every row of `alive`, each once; call `prepare` before.

        The highest priority comes first, ties go to the smaller uid: SELECT uid FROM ({filter.priorities()}) ORDER BY
        priority DESC, uid LIMIT 2000.
        """
        ...


@runtime_checkable
class ComparingFilter(Protocol):
    """A filter that compares with the kept samples of other snapshots. The engine fills its table before `prepare`."""

    against: tuple[str, ...]  # URLs of snapshots: `URL` for the latest, or `URL@N`

    def compared_columns(self) -> Sequence[str]:
        """Columns, among those it reads, that the compared snapshots must have with the same fingerprints."""
        ...

    def compared_table(self) -> str:
        """Name of the table of compared samples.

        Its columns: snapshot (an index into `against`), own (whether it is an earlier snapshot of the dataset that the
        recipe writes), uid, content_hash, and those of `compared_columns`.
        """
        ...

    def matches(self) -> str:
        """SQL of `id, how, snapshot, other, value`: for each dropped sample, the compared sample that it matches."""
        ...


@runtime_checkable
class DuplicateFilter(Filter, Protocol):
    """A filter that drops samples because they duplicate a kept sample; a kept sample and its duplicates are a group.

    The engine runs `copies` instead of `drops`, and reports the largest groups.
    """

    def copies(self) -> str:
        """SQL of `id, detail` as for `drops`, and `stays`: the id of the kept sample that the row duplicates."""
        ...


@runtime_checkable
class FileReadingFilter(Protocol):
    """A filter that reads files, such as lists of words."""

    def files(self) -> Sequence[PinnedFile]:
        """Files with their sha256. The run checks that they exist before it begins."""
        ...


@runtime_checkable
class WeightingFilter(Protocol):
    """A filter that sets sample weights: to compensate for drops, or as the number of draws."""

    def weighs(self) -> str | None:
        """SQL that selects `id, weight` of rows of `alive`, each id once; None where the settings turn weights off.

        Other rows have the weight 1, and so have samples on the keep list, which no filter drops. The weights of
        several filters and of a list of weights are multiplied.
        """
        ...
