"""Filters: each reads columns and selects the samples to drop, with a reason.

A filter is a frozen dataclass whose fields are its configuration in the recipe, and a pure function from columns to
drops: one SQL query over the view `alive` (the samples that no earlier filter dropped). DuckDB runs the query out of
core; no filter creates a Python object for a row. Modules without a class in `FILTERS` are algorithms that filters
share: `hamming` and `hash_*` find near hashes, `rank_cut` cuts an exact share, `phrases` finds phrases. To add a
filter, write a file in this folder and add its class to `FILTERS`; in a package of your own, declare the class as an
entry point of the group `tutelage.filters`.
"""

from __future__ import annotations

from curation.core.entry_points import with_installed
from curation.filters.algebra import AllOf, AnyOf, NotOf, flat
from curation.filters.boilerplate import Boilerplate
from curation.filters.budget import Budget
from curation.filters.caption import Caption
from curation.filters.cluster_balance import ClusterBalance
from curation.filters.decontaminate import Decontaminate
from curation.filters.doubtful_labels import DoubtfulLabels
from curation.filters.exact_duplicates import ExactDuplicates
from curation.filters.filter import (
    ComparingFilter,
    DuplicateFilter,
    FileReadingFilter,
    Filter,
    PreparingFilter,
    RankingFilter,
    ScoreCuttingFilter,
    WeightingFilter,
)
from curation.filters.image_size import ImageSize
from curation.filters.mentions import Mentions
from curation.filters.metaclip_balance import MetaclipBalance
from curation.filters.near_duplicates import NearDuplicates
from curation.filters.one_of import OneOf
from curation.filters.origin import Origin
from curation.filters.semantic_duplicates import SemanticDuplicates
from curation.filters.soft_cap import SoftCap
from curation.filters.soft_cap_sampling import SoftCapSampling
from curation.filters.threshold import Threshold
from curation.filters.top_fraction import TopFraction

__all__ = [
    "FILTERS",
    "AllOf",
    "AnyOf",
    "ComparingFilter",
    "DoubtfulLabels",
    "DuplicateFilter",
    "FileReadingFilter",
    "Filter",
    "NotOf",
    "PreparingFilter",
    "RankingFilter",
    "ScoreCuttingFilter",
    "WeightingFilter",
    "flat",
    "hamming",
    "hash_sets",
    "kind_of",
    "named",
]

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
        "doubtful_labels": DoubtfulLabels,
        "exact_duplicates": ExactDuplicates,
        "image_size": ImageSize,
        "mentions": Mentions,
        "metaclip_balance": MetaclipBalance,
        "near_duplicates": NearDuplicates,
        "not": NotOf,
        "one_of": OneOf,
        "origin": Origin,
        "semantic_duplicates": SemanticDuplicates,
        "soft_cap": SoftCap,
        "soft_cap_sampling": SoftCapSampling,
        "threshold": Threshold,
        "top_fraction": TopFraction,
    },
    Filter,
)


def kind_of(item: Filter) -> str | None:
    """Name in `FILTERS` of a filter's class; None for a class that is not in the table."""
    return next((name for name, kind in FILTERS.items() if kind is type(item)), None)
