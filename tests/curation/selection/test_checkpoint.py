"""Checkpoints: to the bit, one run's only, and the one before when writing was cut."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from services import Clock

from curation.core.errors import UserError
from curation.learners.contrastive import ClipLearner
from curation.learners.training import Training
from curation.selection.checkpoint import INDEX, latest, latest_facts, save
from curation.storage import retry
from curation.storage.store import Store, open_store


class Toy:
    """A learner of one number."""

    def __init__(self, steps: int = 0) -> None:
        self.steps, self.weight = steps, torch.tensor(float(steps))

    def state(self) -> dict[str, torch.Tensor]:
        return {"weight": self.weight, "steps": torch.tensor(self.steps)}

    def restore(self, state: Any) -> None:
        self.steps, self.weight = int(state["steps"]), state["weight"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "run"))


@pytest.mark.slow
def test_a_learner_comes_back_to_the_bit(store: Store) -> None:
    learner = ClipLearner("proxy-mu", Training(averaging=0.9))
    save(store, {"learner": learner, "online": Toy(3)}, {"identity": "a", "place": [2, 64]})
    found = latest(store, {"identity": "a"})
    assert found is not None and (found.updates, found.facts["place"]) == (0, [2, 64])
    again, online = ClipLearner("proxy-mu", Training(averaging=0.9, seed=5)), Toy()
    found.restore({"learner": again, "online": online})
    one, other = learner.state(), again.state()
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert online.steps == 3


def test_there_is_none_yet(store: Store) -> None:
    assert latest(store, {}) is None


def test_facts_cost_a_header_whatever_the_models_weigh(store: Store) -> None:
    assert latest_facts(store) is None
    learner = Toy(5)
    learner.weight = torch.zeros(1 << 20)
    save(store, {"learner": learner}, {"place": [2, 64]})
    before = store.stats.bytes_in
    assert latest_facts(store) == {"place": [2, 64]}
    assert store.stats.bytes_in - before < 10_000


def test_the_latest_counts_and_old_ones_go(store: Store) -> None:
    for steps in (5, 10, 15, 20):
        save(store, {"learner": Toy(steps)}, {}, keep=2)
    found = latest(store, {})
    assert found is not None and found.updates == 20
    assert len([item for item in store.list("checkpoints") if item.key.endswith(".safetensors")]) == 2
    save(store, {"learner": Toy(20)}, {})  # the same again, after a crash
    assert len([item for item in store.list("checkpoints") if item.key.endswith(".safetensors")]) == 2


@pytest.mark.parametrize("dies_at", [0, 1])
def test_dying_while_writing_leaves_the_one_before(store: Store, dies_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    save(store, {"learner": Toy(5)}, {})
    put, calls = Store.put, count()

    def dying(self: Store, key: str, data: bytes) -> None:
        if next(calls) == dies_at:
            raise KeyboardInterrupt
        put(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", dying)
        with pytest.raises(KeyboardInterrupt):
            save(store, {"learner": Toy(10)}, {})
    found = latest(store, {})
    assert found is not None and found.updates == 5


def test_a_lost_index_loses_no_checkpoint(store: Store) -> None:
    for steps in (5, 10):
        save(store, {"learner": Toy(steps)}, {})
    store.delete(INDEX)
    found = latest(store, {})
    assert found is not None and found.updates == 10


def test_another_run_is_refused(store: Store) -> None:
    save(store, {"learner": Toy(5)}, {"identity": "a"})
    with pytest.raises(UserError, match="of another run"):
        latest(store, {"identity": "b"})
    found = latest(store, {"identity": "a"})
    assert found is not None
    with pytest.raises(UserError, match="has no online"):
        found.restore({"online": Toy()})


def test_a_file_that_is_none(store: Store) -> None:
    key = save(store, {"learner": Toy(5)}, {})
    from curation.models.weights import tensors_to_bytes

    store.put(key, tensors_to_bytes({"x": torch.zeros(1)}, {"format": "pt"}))
    with pytest.raises(UserError, match=r"can be read: .* \(of format pt, and this version reads tutelage-checkpoint"):
        latest(store, {})


def test_what_cannot_be_read_is_passed_over_and_none_at_all_is_one_line(store: Store) -> None:
    for steps in (1, 2):
        save(store, {"learner": Toy(steps)}, {"identity": "a"})
    store.put("checkpoints/000000002.safetensors", b"cut")
    found = latest(store, {"identity": "a"})
    assert found is not None and found.updates == 1 and found.unreadable == ("checkpoints/000000002.safetensors",)
    assert latest_facts(store) == {"identity": "a"}
    store.put("checkpoints/index.json", b"[")  # then the files themselves count
    again = latest(store, {"identity": "a"})
    assert again is not None and again.updates == 1
    store.delete("checkpoints/000000001.safetensors")
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read"):
        latest(store, {"identity": "a"})


@pytest.mark.slow
def test_bits_that_changed_are_noticed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "time", Clock())  # each of 500 damaged objects is read again after 0.1 s
    for steps in (1, 2):
        key = save(store, {"learner": Toy(steps)}, {"identity": "a"})
    whole = store.get(key)
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        store.put(key, bytes(data))
        found = latest(store, {"identity": "a"})
        assert found is not None and found.facts == {"identity": "a"}
        if found.updates != 1:  # spaces that fill up the header, and such names as tell the same
            assert found.updates == 2 and found.tensors["learner.weight"] == 2
        assert latest_facts(store) == {"identity": "a"}


@pytest.mark.parametrize("index", [b"null", b"3", b"[]", b"{}", b"[1]", b"\xff"])
def test_an_index_that_says_nothing_loses_no_checkpoint(store: Store, index: bytes) -> None:
    save(store, {"learner": Toy(5)}, {})
    store.put(INDEX, index)
    found = latest(store, {})
    assert found is not None and found.updates == 5


def test_a_damaged_checkpoint_takes_no_good_one_with_it(store: Store) -> None:
    for steps in (200, 400):
        save(store, {"learner": Toy(steps)}, {})
    store.put("checkpoints/000000400.safetensors", b"cut")
    found = latest(store, {})
    assert found is not None and found.updates == 200
    save(store, {"learner": Toy(250)}, {})  # the run that went on from there
    left = [item.key for item in store.list("checkpoints") if item.key.endswith(".safetensors")]
    assert left == ["checkpoints/000000200.safetensors", "checkpoints/000000250.safetensors"]


def test_what_a_process_left_that_died_between_index_and_deletion_is_deleted_by_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for steps in (1, 2):
        save(store, {"learner": Toy(steps)}, {})
    with monkeypatch.context() as patch:
        patch.setattr(Store, "delete", lambda self, key: None)
        save(store, {"learner": Toy(3)}, {})
    save(store, {"learner": Toy(4)}, {})
    left = [item.key for item in store.list("checkpoints") if item.key.endswith(".safetensors")]
    assert left == ["checkpoints/000000003.safetensors", "checkpoints/000000004.safetensors"]
