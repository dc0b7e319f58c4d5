"""The room of filters: each looks at columns and names the samples that leave, with a reason.

A filter is a frozen dataclass whose fields are its configuration in the recipe, and a pure function from columns to
drops: one SQL query over the view `alive` (the samples that no earlier filter dropped). DuckDB runs it out of core, so
nothing here ever holds a row a Python object. To add a filter: write a file beside these and name it in `FILTERS`; or,
in a package of your own, name its class as an entry point of the group `tutelage.filters`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from curation.entry_points import with_installed
from curation.filters.algebra import AllOf, AnyOf, NotOf
from curation.filters.boilerplate import Boilerplate
from curation.filters.budget import Budget
from curation.filters.caption import Caption
from curation.filters.cluster_balance import ClusterBalance
from curation.filters.decontaminate import Decontaminate
from curation.filters.exact_duplicates import ExactDuplicates
from curation.filters.image_size import ImageSize
from curation.filters.mentions import Mentions
from curation.filters.metaclip_balance import MetaclipBalance
from curation.filters.near_duplicates import NearDuplicates
from curation.filters.one_of import OneOf
from curation.filters.semantic_duplicates import SemanticDuplicates
from curation.filters.soft_cap import SoftCap
from curation.filters.threshold import Threshold
from curation.filters.top_fraction import TopFraction

if TYPE_CHECKING:
    import duckdb

    from curation.models import Weights


@runtime_checkable
class Filter(Protocol):
    """What the decision engine needs of a filter."""

    def columns(self) -> Sequence[str]:
        """The columns it reads: names of the index (see `units.INDEX_SCHEMA`) or of the recipe's scores.

        A vector is a blob of halves; only filters' vectors are loaded, 2 bytes a dimension of local disk.
        """
        ...

    def drops(self) -> str:
        """SQL that selects `id, detail` of the rows to drop from `alive(id, uid, <columns>)`.

        `id` counts the samples in source order. The reason in the manifest is `<filter's name>.<detail>`, or the
        name alone where detail is empty.
        """
        ...


@runtime_checkable
class Prepares(Protocol):
    """A filter that needs more than a query: it makes the temporary tables that its query reads."""

    def prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        """Called once, when `alive` is what it will be for `drops`."""
        ...


@runtime_checkable
class Compares(Protocol):
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
class Reads(Protocol):
    """A filter that reads files, such as lists of words."""

    def files(self) -> Sequence[Weights]:
        """The files, each with its sha256. They are looked for before anything runs."""
        ...


@runtime_checkable
class Weighs(Protocol):
    """A filter that gives what it keeps a weight, to make up for what it drops."""

    def weighs(self) -> str | None:
        """SQL that selects `id, weight` of rows of `alive`, each id once, or nothing where the settings say so.

        Other rows weigh 1, and so do samples on the keep list, which nothing drops; the weights of several filters and
        of a list of weights are multiplied.
        """
        ...


def flat(filters: Iterable[Filter]) -> Iterator[Filter]:
    """Filters and, of those that are made of others, their parts."""
    for item in filters:
        yield item
        yield from flat(getattr(item, "of", ()) if isinstance(item, AllOf | AnyOf | NotOf) else ())


#: name in the recipe -> dataclass. The recipe's schema, the help and the contract test come from this table.
FILTERS: dict[str, type[Filter]] = with_installed(
    "tutelage.filters",
    {
        "all": AllOf,
        "any": AnyOf,
        "boilerplate": Boilerplate,
        "budget": Budget,
        "caption": Caption,
        "cluster_balance": ClusterBalance,
        "decontaminate": Decontaminate,
        "exact_duplicates": ExactDuplicates,
        "image_size": ImageSize,
        "mentions": Mentions,
        "metaclip_balance": MetaclipBalance,
        "near_duplicates": NearDuplicates,
        "not": NotOf,
        "one_of": OneOf,
        "semantic_duplicates": SemanticDuplicates,
        "soft_cap": SoftCap,
        "threshold": Threshold,
        "top_fraction": TopFraction,
    },
)
