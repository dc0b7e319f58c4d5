"""Which snapshot a damaged document belongs to: the newest one that needs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import PLAIN, write_corpus, write_recipe
from running import curate

from curation.dataset.snapshot import open_snapshot
from curation.ledger.owners import owner_of, repair_of
from curation.storage.store import Store


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two snapshots, of other decisions over the same plan."""
    root: Path = tmp_path_factory.mktemp("owners")
    write_corpus(root / "corpus", 2, 20, flaws=False)
    recipe = write_recipe(root / "r.yaml", f"{root}/corpus", f"{root}/out", "", "", **PLAIN)
    curate(recipe)
    curate(recipe, "filters.caption.min_chars=32")
    return open_snapshot(f"{root}/out").store


@pytest.mark.slow
def test_units_belong_to_their_snapshot_and_a_shared_plan_to_the_newest(out: Store) -> None:
    first, second = (open_snapshot(out.url, number) for number in (1, 2))
    units = [set(snapshot.parts.column("unit").to_pylist()) for snapshot in (first, second)]
    assert units[0] and units[1] and not units[0] & units[1]
    for number, names in enumerate(units, 1):
        assert {owner_of(out, f"units/{name}.json") for name in names} == {number}
    plan = second.document["plan"]
    assert plan == first.document["plan"] and owner_of(out, f"plans/{plan}.json") == 2
    pages = [info.key for info in out.list("plans/pages/")]
    assert pages and {owner_of(out, key) for key in pages} == {2}


@pytest.mark.parametrize("key", ["units/" + "0" * 64 + ".json", "plans/pages/none.parquet", "data/x.tar"])
def test_what_no_snapshot_needs_belongs_to_none(out: Store, key: str) -> None:
    assert owner_of(out, key) == 0


def test_the_advice_names_the_older_snapshot_where_that_needs_it(out: Store) -> None:
    older = next(iter(open_snapshot(out.url, 1).parts.column("unit").to_pylist()))
    newer = next(iter(open_snapshot(out.url, 2).parts.column("unit").to_pylist()))
    assert "/out@1 " in repair_of(out, f"units/{older}.json")
    assert "/out " in repair_of(out, f"units/{newer}.json") and "/out " in repair_of(out, "units/x.json")
