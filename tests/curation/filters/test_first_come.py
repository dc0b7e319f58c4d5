"""Of linked items in order, the first stays, and there are no chains."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.filters.first_come import dropped_items

LINKS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=80)


def brute(links: list[tuple[int, int]], count: int) -> dict[int, int]:
    """Dropped item -> the kept item linked to it, by the definition."""
    gone: dict[int, int] = {}
    for one in range(count):
        before = [other for other in range(one) if other not in gone and {(one, other), (other, one)} & set(links)]
        if before:
            gone[one] = before[0]
    return gone


def found(links: list[tuple[int, int]], count: int, batch: int) -> dict[int, int]:
    ordered = sorted((max(link), min(link)) for link in links if link[0] != link[1])
    batches = [np.array(ordered[at : at + batch], np.int64).reshape(-1, 2) for at in range(0, len(ordered), batch)]
    gone: dict[int, int] = {}
    for leaves, stays in dropped_items(((some[:, 0], some[:, 1]) for some in batches), count):
        assert not set(leaves.tolist()) & gone.keys()
        gone |= dict(zip(leaves.tolist(), stays.tolist(), strict=True))
    return gone


@settings(max_examples=200)
@given(LINKS, st.integers(1, 90))
def test_what_stays_is_what_the_definition_says_however_links_are_batched(
    links: list[tuple[int, int]], batch: int
) -> None:
    assert found(links, 31, batch) == brute(links, 31)


def test_of_a_long_chain_every_second_link_stays() -> None:
    """The links of one batch depend on each other to the last: one pass still."""
    chain = [(n, n + 1) for n in range(50_000)]
    gone = found(chain, 50_001, 1 << 16)
    assert set(gone) == set(range(1, 50_001, 2)) and all(gone[n] == n - 1 for n in gone)
