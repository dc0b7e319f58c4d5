"""The first samples: those of a sort of everything, whatever the units, ties by uid."""

from __future__ import annotations

import numpy as np
import pytest

from curation.diagnosis.first_samples import FirstSamples


@pytest.mark.parametrize("count", [1, 7, 200])
@pytest.mark.parametrize("pieces", [1, 3, 17])
def test_they_are_the_first_of_a_sort(count: int, pieces: int) -> None:
    random = np.random.default_rng(count)
    scores = random.integers(0, 9, 100).astype(np.float32)
    uids = [f"{number:03}" for number in random.permutation(100)]
    first, items = FirstSamples[int](count), list[int]()
    for places in np.array_split(np.arange(100), pieces):

        def item(place: int, places: np.ndarray = places) -> int:
            items.append(int(places[place]))
            return items[-1]

        first.add(scores[places], [uids[place] for place in places], item)
    expected = sorted(range(100), key=lambda place: (-scores[place], uids[place]))[:count]
    found = first.ranked()
    assert [one.item for one in found] == expected
    assert [(one.score, one.uid) for one in found] == [(scores[place], uids[place]) for place in expected]
    assert count == 200 or len(items) < 100, "the rest of a unit is not looked at"
