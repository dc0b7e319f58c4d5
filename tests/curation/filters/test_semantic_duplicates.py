"""Filter `semantic_duplicates`: one of similar vectors stays, with and without chains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import torch
from filters_given import SIZES, dropped, expect_equal_to, items_of
from rows_given import Row, random_rows, table, unit

from curation.filters import Filter
from curation.filters.semantic_duplicates import BLOCK, KeptVectors, SemanticDuplicates


def leave(vectors: torch.Tensor, threshold: float, chains: bool = False) -> np.ndarray[Any, Any]:
    stays = KeptVectors(threshold, chains)
    ids = np.arange(len(vectors)).reshape(-1)
    blocks = zip(np.split(ids, range(BLOCK, len(ids), BLOCK)), vectors.split(BLOCK), strict=True)
    return np.concatenate([stays.leave_for(some, block) for some, block in blocks]) >= 0


def brute_semantic(item: SemanticDuplicates, rows: list[Row]) -> set[int]:
    """With one cluster. In order, all leave that are similar to one that stays."""
    alive = [i for i, row in enumerate(rows) if row["reason"] is None]
    if item.prefer:
        alive.sort(key=lambda i: (-rows[i]["score"], rows[i]["uid"]))
    wide = {i: rows[i]["embedding"].astype(np.float32) for i in alive}
    of = {i: vector / np.linalg.norm(vector) for i, vector in wide.items()}
    stay: list[int] = []
    for i in alive:
        if not any(of[i] @ of[j] >= item.threshold for j in stay):
            stay.append(i)
    return set(alive) - set(stay)


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["first", "hard", "easy"])
def test_copies_are_in_one_cluster_however_many_there_are(keep: Any, tmp_path: Path) -> None:
    """One sample of each of 60 groups of equal vectors stays; more stay only in groups of merely near vectors."""
    rows = [{**row, "reason": None} for row in random_rows(60, 6)]
    rng = np.random.default_rng(0)
    copies = [{**rows[i], "uid": f"{rng.integers(0, 2**62):032x}"} for i in rng.integers(0, 60, 400)]
    found = dropped(tmp_path, rows + copies, SemanticDuplicates(clusters=9, threshold=0.999, keep=keep))
    stay = [row for i, row in enumerate(rows + copies) if i not in found]
    assert len(stay) == len({row["embedding"].tobytes() for row in rows})
    again = dropped(tmp_path, rows + copies, SemanticDuplicates(clusters=9, threshold=0.999, keep=keep))
    assert again == found


def test_of_the_samples_near_a_centre_hard_keeps_the_far_and_easy_the_near_one(tmp_path: Path) -> None:
    one, spread = np.eye(8)[0], 0.05 * np.eye(8)[1]
    rows = [{**row, "reason": None} for row in random_rows(9, 7)]
    for i, row in enumerate(rows):
        row["embedding"] = unit(one + (i - 4) * spread)
    stay = {
        keep: set(range(9)) - set(dropped(tmp_path, rows, SemanticDuplicates(clusters=1, threshold=0.9, keep=keep)))
        for keep in ("hard", "easy")
    }
    assert stay["easy"] == {4}
    assert stay["hard"] <= {0, 8} and stay["hard"]


@pytest.mark.slow
@pytest.mark.parametrize("chains", [False, True])
def test_a_cluster_larger_than_a_block_is_looked_at_block_by_block(
    chains: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However its rows arrive: as one by one, where no more than a block is brought together."""
    rows = [{**row, "reason": None} for row in random_rows(300, 12)]
    items = [SemanticDuplicates(clusters=c, threshold=0.9, chains=chains) for c in (1, 7)]
    whole = [dropped(tmp_path, rows, item) for item in items]
    sizes = []
    leave_for = KeptVectors.leave_for

    def leave(self: KeptVectors, ids: Any, block: torch.Tensor) -> Any:
        sizes.append(len(block))
        assert all(len(held) <= 16 for held, _ in self.held)
        return leave_for(self, ids, block)

    monkeypatch.setattr(KeptVectors, "leave_for", leave)
    monkeypatch.setattr("curation.filters.semantic_duplicates.BLOCK", 16)
    monkeypatch.setattr("curation.filters.semantic_duplicates.IDS", 9)
    monkeypatch.setattr("curation.filters.vectors.ROWS", 11)
    assert [dropped(tmp_path, rows, item) for item in items] == whole
    assert max(sizes) == 16 and sum(sizes) == 2 * len(rows)
    if not chains:
        assert set(whole[0]) == brute_semantic(items[0], rows)


@pytest.mark.slow
def test_the_sample_for_centres_is_drawn_by_seed_and_uid_and_no_larger_than_asked_for() -> None:
    """After a budget, too, which without a score leaves the smallest uids."""
    rows = [{**row, "uid": f"{n:032x}"} for n, row in enumerate(random_rows(3000, 13))]
    given = table(rows).select(["uid", "embedding"])
    shuffled = given.take(pa.array(np.random.default_rng(0).permutation(3000)))

    def sample(seed: int, alive: pa.Table, clusters: int) -> torch.Tensor:
        with duckdb.connect() as db:
            db.register("given", alive)
            db.execute("CREATE TABLE alive AS FROM given")
            return SemanticDuplicates(seed=seed)._sample(db, clusters, len(alive))

    assert len(sample(0, given, 20)) == 640 and len(sample(0, given, 1)) == 100
    assert len(sample(0, given.slice(0, 50), 1)) == 50
    assert torch.equal(sample(0, given, 20), sample(0, shuffled, 20))
    assert torch.equal(sample(0, given, 1), sample(0, given, 20)[:100])
    assert not torch.equal(sample(0, given, 20), sample(1, given, 20))


def test_a_chain_leaves_every_second_of_its_links() -> None:
    """0 drops 1, which is gone when 2 is looked at; the published code would drop 2 as well."""
    angles = torch.arange(7) * 0.1
    vectors = torch.stack([angles.cos(), angles.sin()], 1)
    assert leave(vectors, float(np.cos(0.15))).tolist() == [False, True, False, True, False, True, False]
    many = torch.cat([vectors] * 400)  # more than are compared at once
    assert (~leave(many, float(np.cos(0.15)))).sum() == 4


@pytest.mark.parametrize("block", [7, 64, 1000])
def test_what_leaves_names_the_first_that_stays_and_is_like_it(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With chains, the one that the whole chain leaves for; so of every group one stays."""
    rng = np.random.default_rng(5)
    vectors = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(500, 3))).float(), dim=-1)
    like = (vectors @ vectors.T >= np.float32(0.97)).numpy()
    ids = rng.permutation(10_000)[:500]
    monkeypatch.setattr("curation.filters.semantic_duplicates.BLOCK", 64)
    found = {}
    for chains in (False, True):
        stays = KeptVectors(0.97, chains)
        parts = zip(np.split(ids, range(block, 500, block)), vectors.split(block), strict=True)
        found[chains] = np.concatenate([stays.leave_for(some, part) for some, part in parts])
        assert set(found[chains][found[chains] >= 0]) <= set(ids[found[chains] < 0]), "what others leave for stays"
    left = found[False] >= 0
    for row in np.flatnonzero(left):
        assert found[False][row] == ids[next(n for n in range(row) if like[row, n] and not left[n])]
    for row in np.flatnonzero(found[True] >= 0):
        before = next(n for n in range(row) if like[row, n])
        assert found[True][row] == (ids[before] if found[True][before] < 0 else found[True][before])


def test_with_chains_it_leaves_what_the_published_code_leaves() -> None:
    """There the largest cosine to any item before it decides, whether that stays or not."""
    rng = np.random.default_rng(3)
    vectors = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(3000, 3))).float(), dim=-1)
    published = (vectors @ vectors.T).tril(-1).amax(1).numpy() >= np.float32(0.999)
    assert leave(vectors, 0.999, chains=True).tolist() == published.tolist()
    assert leave(vectors, 0.999).sum() < published.sum()


def test_vectors_that_are_no_numbers_are_quarantined(tmp_path: Path) -> None:
    rows = [{**row, "reason": None} for row in random_rows(20, 8)]
    rows[3]["embedding"] = np.full(8, np.nan, np.float16)
    found = dropped(tmp_path, rows, SemanticDuplicates(clusters=2, threshold=1.0))
    assert {i for i, reason in found.items() if reason == "score_not_finite"} == {3}


@pytest.mark.parametrize("item", items_of(SemanticDuplicates), ids=repr)
@pytest.mark.parametrize("n", SIZES)
def test_equals_brute_force(item: Filter, n: int, tmp_path: Path) -> None:
    expect_equal_to(brute_semantic, item, n, tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: SemanticDuplicates(threshold=0),
        lambda: SemanticDuplicates(clusters=0),
        lambda: SemanticDuplicates(keep="hard", prefer="score"),
    ],
)
def test_senseless_settings_are_refused(bad: Callable[[], Filter]) -> None:
    with pytest.raises(ValueError):
        bad()
