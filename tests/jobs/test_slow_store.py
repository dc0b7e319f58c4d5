"""Backpressure: whatever is slow, what was read, scored or decided before it stays bounded, and the run ends well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
import pytest
from broken_s3 import BrokenS3, store_of
from builders import PLAIN, write_corpus, write_recipe
from deaths import Letters, Pool
from services import environment, wait_until

import curation as cu
from curation.curating.scoring import unit_scorer
from curation.curating.scoring.batches import units_table
from curation.curating.scoring.black_box import NullBlackBox
from curation.curating.scoring.unit_scorer import UNCOMMITTED, UnitScorer
from curation.curating.write_groups import WriteGroups
from curation.curating.writing import WriteGroup
from curation.ledger.attempts import CallSettings
from curation.scorers import Batch
from curation.shards import unit_reader

pytestmark = pytest.mark.slow

KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "x"}


class Gate:
    """A store whose uploads of some objects wait until it opens. Counts those that have arrived."""

    def __init__(self, server: BrokenS3, end: str) -> None:
        self.arrived, self._end, self._open, self._lock = set[str](), end, Event(), Lock()
        server.trouble = self._trouble

    def _trouble(self, method: str, path: str) -> str:
        key = path.partition("?")[0]
        if method == "PUT" and key.endswith(self._end):
            with self._lock:
                self.arrived.add(key)
            self._open.wait()
        return ""

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def server() -> Iterator[BrokenS3]:
    with environment(KEYS), BrokenS3() as broken:
        yield broken


def test_writers_hold_a_group_each_while_no_upload_ends(
    tmp_path: Path, server: BrokenS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, drawn = Gate(server, ".tar"), list[WriteGroup]()
    groups = WriteGroups.groups

    def counted(self: WriteGroups, samples: int) -> Iterator[WriteGroup]:
        for group in groups(self, samples):
            drawn.append(group)
            yield group

    monkeypatch.setattr(WriteGroups, "groups", counted)
    corpus = write_corpus(tmp_path / "corpus", 12, 20, flaws=False)
    changes: dict[str, Any] = {
        "store": {"endpoint": server.endpoint}, "shards": {"samples": 20}, "compute": {"write_workers": 2}
    }  # fmt: skip
    recipe = write_recipe(tmp_path / "r.yaml", str(corpus), "s3://bucket/out", "", "", **{**PLAIN, **changes})
    with ThreadPoolExecutor(1) as driver:
        run = driver.submit(cu.curate, recipe)
        wait_until(lambda: len(gate.arrived) == 2 or run.done(), "two uploads")
        waiting = len(drawn)
        gate.open()
        snapshot = run.result()
    assert waiting == 2 < len(drawn)
    assert snapshot.document["samples"]["seen"] == 12 * 20


def test_models_wait_for_tables_that_a_slow_store_has_not_taken(
    tmp_path: Path, server: BrokenS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(tmp_path, 5, {}, 16, others=3 * UNCOMMITTED)
    held, most, lock, gate = [0], [0], Lock(), Event()
    commit, add = unit_scorer.commit, unit_scorer.unit_collector.Collector.add

    def added(self: Any, table: Any) -> Iterator[Any]:
        for unit in add(self, table):
            with lock:
                held[0] += 1
                most[0] = max(most[0], held[0])
            yield unit

    def committed(*arguments: Any) -> None:
        gate.wait()
        commit(*arguments)
        with lock:
            held[0] -= 1

    monkeypatch.setattr(unit_scorer.unit_collector.Collector, "add", added)
    monkeypatch.setattr(unit_scorer, "commit", committed)
    with ThreadPoolExecutor(1) as worker:
        scorer = UnitScorer(pool.job, NullBlackBox())
        call = worker.submit(scorer.score, 1, units_table(pool.shards), CallSettings(16))
        wait_until(lambda: held[0] > UNCOMMITTED or call.done(), "units that wait")
        gate.set()
        progress = call.result()
    assert progress.units == 1 + 3 * UNCOMMITTED
    assert most[0] == UNCOMMITTED + 1


def test_no_more_is_decoded_than_fills_a_batch_and_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker decodes on the core that its models use: a slow scorer holds the reader back."""
    pool, decoded, ahead = Pool(tmp_path, 900, {}, 16, others=20), [0], list[int]()
    load, inspect = Letters.load, unit_reader.inspect

    def inspected(*arguments: Any) -> Any:
        decoded[0] += 1
        return inspect(*arguments)

    def loaded(self: Letters, device: Any, options: Any) -> Callable[[Batch], np.ndarray]:
        score = load(self, device, options)

        def slow(batch: Batch) -> np.ndarray:
            ahead.append(decoded[0] - sum(self.count))
            return score(batch)

        return slow

    monkeypatch.setattr(unit_reader, "inspect", inspected)
    monkeypatch.setattr(Letters, "load", loaded)
    progress = UnitScorer(pool.job, NullBlackBox()).score(1, units_table(pool.shards), CallSettings(16))
    assert progress.samples == decoded[0] == 1000
    assert max(ahead) <= 16 + unit_reader.ROWS_PER_TABLE


def test_blocks_of_a_shard_are_read_one_ahead(server: BrokenS3) -> None:
    store = store_of(server)
    store.put("shard", bytes(10_000))
    asked = len(server.requests)
    for taken, block in enumerate(store.blocks("shard", 10_000, block=1000), 1):
        assert len(block) == 1000
        assert len(server.requests) - asked <= taken + 1
