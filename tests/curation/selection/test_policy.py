"""Data policies: the records equal the run, and a replay trains on the same batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from curation.core.errors import UserError
from curation.models.batches import Examples
from curation.selection import policy_writer
from curation.selection.online import Choice, Roles, TableScores, online_selection
from curation.selection.policy import Policy, describe
from curation.selection.policy_replay import replay
from curation.selection.policy_writer import PolicyWriter
from curation.selection.pool import Pool
from curation.selectors.blend import EasyReference
from curation.selectors.selection_settings import SelectionSettings
from curation.storage.parquet import to_parquet
from curation.storage.store import Store, open_store

N, STEPS = 30, 7


class Noting:
    """A learner that notes what it was trained on."""

    def __init__(self, steps: int = 0) -> None:
        self.steps, self.trained = steps, list[list[int]]()

    def step(self, batch: Any) -> None:
        self.steps += 1
        self.trained.append(batch.targets[:, 0].tolist())


def pool(order: list[int] | None = None, losses: torch.Tensor | None = None) -> Pool:
    rows = order or list(range(N))
    uids = [f"{row:032x}" for row in rows]
    examples = Examples(np.zeros((len(rows), 2, 2, 3), np.uint8), [str(row) for row in rows], uids, [""] * len(rows))
    return Pool.of(examples, torch.tensor(rows)[:, None], losses=losses)


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, Noting, list[Choice]]:
    monkeypatch.setattr(policy_writer, "STEPS_A_FILE", 3)
    store, learner, source = open_store(str(tmp_path / "policy")), Noting(), pool(losses=torch.rand(N))
    writer, steps = PolicyWriter(store, source), []
    roles = Roles(learner=learner, reference=TableScores())  # type: ignore[arg-type]
    selection = SelectionSettings(selector=EasyReference(), stop=0.8)
    for step in online_selection(roles, source, selection, steps=STEPS, batch=4):
        steps.append(step.choice._replace(models={"reference": "abc"}, lag=2))
        writer.add(steps[-1])
    writer.close()
    return store, learner, steps


def test_what_was_recorded_is_what_happened(recorded: tuple[Store, Noting, list[Choice]]) -> None:
    store, learner, steps = recorded
    assert len([item for item in store.list() if item.key.startswith("steps-")]) == 3
    read = list(Policy(store).steps())
    assert [step.number for step in read] == list(range(STEPS))
    for ours, theirs in zip(read, steps, strict=True):
        assert ours.candidates.tolist() == theirs.candidates.tolist()
        assert ours.chosen.tolist() == theirs.chosen.tolist()
        assert (ours.scores is None) == (theirs.scores is None) == (ours.number >= 0.8 * STEPS)
        if ours.scores is not None and theirs.scores is not None:
            assert ours.scores.tolist() == theirs.scores.tolist()
        assert (ours.models, ours.lag) == ({"reference": "abc"}, 2)
    counts = Policy(store).counts()
    assert sum(counts.values()) == 4 * STEPS
    assert counts == {f"{row:032x}": n for row, n in _count(learner.trained).items()}


def _count(trained: list[list[int]]) -> dict[int, int]:
    rows, times = np.unique(np.concatenate(trained), return_counts=True)
    return dict(zip(rows.tolist(), times.tolist(), strict=True))


@pytest.mark.parametrize("resumed_at", [0, 4])
def test_a_replay_trains_on_the_same_batches_whatever_the_order_of_the_pool(
    recorded: tuple[Store, Noting, list[Choice]], resumed_at: int
) -> None:
    store, learner, _ = recorded
    again, order = Noting(resumed_at), torch.randperm(N, generator=torch.Generator().manual_seed(1)).tolist()
    list(replay(again, pool(order), Policy(store)))
    assert again.trained == learner.trained[resumed_at:]


def test_steps_that_a_resumed_run_made_again_count_once(recorded: tuple[Store, Noting, list[Choice]]) -> None:
    store, _, steps = recorded
    writer = PolicyWriter(store, pool(), begin=5)
    writer.add(steps[5]._replace(candidates=steps[0].candidates))
    writer.add(steps[6])
    writer.close()
    read = list(Policy(store).steps())
    assert [step.number for step in read] == list(range(STEPS))
    assert read[5].candidates.tolist() == steps[0].candidates.tolist()
    assert Policy(store).steps_and_batch() == (STEPS, 4)
    PolicyWriter(store, pool())  # a new run, in the folder of one that made no checkpoint
    assert Policy(store).steps_and_batch() == (0, 0)


def test_a_pool_without_a_sample_and_a_folder_without_a_policy(
    recorded: tuple[Store, Noting, list[Choice]], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="is not in this pool"):
        list(replay(Noting(), pool([0, 1, 2]), Policy(recorded[0])))
    with pytest.raises(UserError, match="no data policy"):
        Policy(open_store(str(tmp_path)))


@pytest.mark.parametrize("begins", ["shards", "steps-00000003", "uids/"])
def test_damage_is_one_line_that_names_the_file(recorded: tuple[Store, Noting, list[Choice]], begins: str) -> None:
    store = recorded[0]
    key = next(item.key for item in store.list() if item.key.startswith(begins))
    whole = store.get(key)
    for damaged in (whole[:300], b"xx", whole[:40] + bytes([whole[40] ^ 1]) + whole[41:]):
        store.put(key, damaged)
        with pytest.raises(UserError, match=rf"{key} is damaged"):
            describe(Policy(store))
    store.put(key, whole)
    assert describe(Policy(store))["steps"] == STEPS


def test_a_sample_of_several_shards_is_one(recorded: tuple[Store, Noting, list[Choice]]) -> None:
    """Two shards hold it after a restart on a newer snapshot."""
    store = recorded[0]
    writer = PolicyWriter(store, pool(list(range(5, N))), begin=STEPS)
    writer.add(Choice(STEPS, torch.arange(4), None, torch.arange(4)))  # samples 5 to 8
    writer.close()
    policy = Policy(store)
    found, counts = describe(policy), policy.counts()
    assert len(policy.shards) == 2 and found["pool"] == N
    assert found["times"][0] == N - len(counts)
    assert sum(n for times, n in found["times"].items() if times) == len(counts)


def test_bytes_a_candidate(tmp_path: Path) -> None:
    """The figure in the docstring of `policy`: 256 candidates, 128 chosen, 1,000 steps, of a pool of 20,000."""
    store, generator = open_store(str(tmp_path)), torch.Generator().manual_seed(0)
    writer = PolicyWriter(store, pool(list(range(20_000))))
    for number in range(1000):
        rows, scores = torch.randint(20_000, (256,), generator=generator), torch.rand(256, generator=generator)
        chosen = torch.randperm(256, generator=generator)[:128].sort().values
        writer.add(Choice(number, rows, scores, chosen))
    writer.close()
    assert store.size("steps-00000000.parquet") < 8.5 * 256_000


@pytest.mark.parametrize("data", [b"", b"[]", b'{"a": 1}', "another table"], ids=["empty", "list", "object", "table"])
@pytest.mark.parametrize("what", ["shards.parquet", "steps-", "uids/"])
def test_files_of_the_wrong_shape_are_one_line(
    recorded: tuple[Store, Noting, list[Choice]], what: str, data: bytes | str
) -> None:
    store, _, _ = recorded
    for item in list(store.list()):
        if item.key.startswith(what):
            store.put(item.key, to_parquet(pa.table({"x": [1]})) if isinstance(data, str) else data)
    store.put("steps-of-another-tool.txt", b"")
    with pytest.raises(UserError, match="is damaged") as raised:
        describe(Policy(store))
    assert "\n" not in str(raised.value) and raised.value.fix
