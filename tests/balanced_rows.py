"""Random captions and groups for the tests of balancing filters, and how the engine decides them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from decided_rows import decided_rows
from edits_given import of_lists

from curation.curating.decisions import Decisions
from curation.filters import Filter
from curation.filters.named import NamedFilter, columns_needed

Row = dict[str, Any]


ENTRIES = ("dog", "red dog", "the red dog", "a", "b a", "cat ,", "St. Bernard", "new  york", "New York", "zebra")


def rows_of(n: int) -> list[Row]:
    rng = np.random.default_rng(7)
    words = ["a", "b", "dog", "red", "the", "cat,", "dogs", "St. Bernard", "New York", "new\tyork", "dog!", " "]
    return [
        {
            "uid": sha256(str(i).encode()).hexdigest()[:32],
            "caption": " ".join(rng.choice(words, rng.integers(0, 7))),
            "cluster": int(rng.geometric(0.4)),
            "reason": "image_corrupt" if i % 17 == 3 else None,
        }
        for i in range(n)
    ]


def decided(home: Path, rows: list[Row], *filters: Filter, **lists: Any) -> list[Row]:
    """decision, reason and weight of each row."""
    with loaded(home, rows, *filters) as engine:
        return decided_by(engine, *filters, **lists)


@contextmanager
def loaded(home: Path, rows: list[Row], *filters: Filter) -> Iterator[Decisions]:
    """An engine that holds what these filters read, and so what they read with another seed."""
    index, scores = columns_needed(_named(filters))
    kinds = {"row": pa.int32(), "uid": pa.string(), "reason": pa.string(), **dict.fromkeys(index, pa.string())}
    kinds |= dict.fromkeys(scores, pa.int32())
    values = [{**row, "row": i} for i, row in enumerate(rows)]
    table = pa.table({name: pa.array([row[name] for row in values], kind) for name, kind in kinds.items()})
    with Decisions(home, index, dict.fromkeys(scores, pa.int32())) as engine:
        engine.load([(0, table)])
        yield engine


def decided_by(engine: Decisions, *filters: Filter, **lists: Any) -> list[Row]:
    """Decide the rows that the engine holds; what it decided before is forgotten."""
    engine.clear()
    engine.decide(_named(filters), of_lists(**lists))
    found: list[Row] = decided_rows(engine, 0, 0).to_pylist()
    return found


def _named(filters: Sequence[Filter]) -> list[NamedFilter]:
    return [NamedFilter(f"f{n}", item) for n, item in enumerate(filters)]


def kept(found: list[Row]) -> set[int]:
    return {row["row"] for row in found if row["decision"] == "kept"}
