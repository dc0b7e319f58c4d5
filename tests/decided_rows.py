"""The decisions of units as one table, which the product streams group by group."""

from __future__ import annotations

import pyarrow as pa

from curation.curating import decision_results
from curation.curating.decisions import Decisions


def decided_rows(engine: Decisions, first: int, last: int) -> pa.Table:
    """Return the decisions of units first..last (inclusive), in the order of their samples."""
    return next(decision_results.of_groups(engine, [(first, last)]))
