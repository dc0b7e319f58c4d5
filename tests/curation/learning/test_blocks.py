"""Windows: every shard once an epoch, never more samples in memory than it holds, and runs that do not notice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import PLAIN, write_corpus, write_recipe
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_runs import go, start
from running import curate
from tiny_model import TINY

from curation.core.errors import EmptyCorpusError, UserError
from curation.learning.blocks import HELD, Recent, Windows
from curation.learning.candidates import Candidates
from curation.recipes.learning_recipe import LearnRecipe, parse_learn_recipe
from curation.selection.policy import Policy
from curation.selection.pool_blocks import Block, PoolPosition, begin
from curation.storage.errors import TransientError
from curation.storage.store import open_store

STEPS, BATCH, SHARDS, EACH, PIXELS = 14, 8, 9, 30, 3 * 64 * 64
SMALL = f"memory={120 * PIXELS}"  # windows of 30 samples, of some 130


@pytest.mark.slow
@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=20),
    room=st.integers(1, 30),
    wanted=st.lists(st.integers(1, 12), min_size=1, max_size=30),
)
@settings(max_examples=200)
def test_an_epoch_s_windows_are_its_shards_and_no_candidate_comes_twice(
    sizes: list[int], room: int, wanted: list[int]
) -> None:
    def measure(ordinal: int, behind: Sequence[int]) -> tuple[int, float]:
        return sizes[ordinal], float(sizes[ordinal])

    windows = Windows(len(sizes), room, 3, measure)
    for epoch in range(3):
        met, first = list[int](), 0
        while True:
            found = windows.extent(epoch, first)
            assert found.size == sum(sizes[ordinal] for ordinal in found.ordinals)
            assert found.size <= room or len(found.ordinals) == 1
            met += found.ordinals
            if found.next is None:
                break
            first = found.next
        assert sorted(met) == list(range(len(sizes)))
    assert len(sizes) < 6 or windows.order(0) != windows.order(1)
    drawn: Counter[tuple[int, int, int]] = Counter()
    place = PoolPosition()
    for count in wanted:
        try:
            answer = begin(place, count, windows.extent)
        except UserError:
            assert max(sizes) < count  # else the shard's window has room for it
            return
        before, (place, size) = place, answer
        assert place[::2] >= before[::2]
        drawn.update((place.epoch, place.first, place.drawn + n) for n in range(size))
        place = place.after(size)
    assert max(drawn.values()) == 1


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("pool"), shards=SHARDS, n=EACH, flaws=False)


@pytest.fixture
def recipe(corpus: Path, weights: tuple[Path, str], tmp_path: Path) -> Callable[..., LearnRecipe]:
    text = f"""
data: {corpus}
output: {tmp_path / "out"}
learner: {{contrastive: {{model: {TINY}, steps: {STEPS}, batch: {BATCH}}}}}
online: {{model: {TINY}}}
reference: {{model: {TINY}, weights: {weights[0]}, sha256: {weights[1]}}}
selection: {{selector: {{learnability: {{gain: 10}}}}, filtering_ratio: 0.5}}
holdout: 0.3
by: [name]
evaluate_every: 7
checkpoint_every: 5
"""
    return lambda *overrides: parse_learn_recipe(text, overrides=overrides)


@pytest.mark.slow
def test_memory_holds_what_it_says_and_an_epoch_has_every_sample_once(
    recipe: Callable[..., LearnRecipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0
    put = Recent.put

    def watched(self: Recent, ordinal: int, block: Any) -> None:
        nonlocal most
        put(self, ordinal, block)
        most = max(most, sum(map(len, self._blocks.values())))

    monkeypatch.setattr(Recent, "put", watched)
    pool, whole = start(recipe(SMALL)).pool, start(recipe()).pool
    assert pool.blocks.room == 120 // HELD and whole.blocks.room is None
    most = 0
    everything = set(whole.places())
    for epoch in range(3):
        met = list[str]()
        while pool.place.epoch == epoch:
            if begin(pool.place, 4, pool.blocks.extent)[0].epoch > epoch:
                break
            met += pool.uids(pool.draw(4).rows)
        assert len(met) == len(set(met)) and set(met) <= everything
        assert len(met) >= len(everything) - 3 * SHARDS  # a window's tail is less than a super-batch
        pool.place = PoolPosition(epoch + 1)
    assert most <= 120


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "lag"), [(6, 3), (13, 0)])
def test_a_run_over_windows_goes_on_to_the_bit(
    recipe: Callable[..., LearnRecipe], tmp_path: Path, stop: int, lag: int
) -> None:
    options = (SMALL, f"selection.lag={lag}")
    straight = go(recipe(*options, f"output={tmp_path}/straight"))
    run = start(recipe(*options))
    for number, step in enumerate(run.steps(), 1):
        run.record(step)
        if number == stop:
            break
    found = go(recipe(*options))
    assert found["sha256"] == straight["sha256"] and found["curve"] == straight["curve"]
    assert found["sha256"] != go(recipe(f"selection.lag={lag}", f"output={tmp_path}/whole"))["sha256"]
    compared = go(recipe(SMALL, "selection={}", f"compare={tmp_path}/whole", f"output={tmp_path}/compared"))
    assert "memory" in compared["against"]["differs"]


@pytest.mark.slow
def test_a_policy_over_windows_is_replayed_with_any_memory(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    first = go(recipe(SMALL))
    policy = Policy(open_store(f"{tmp_path}/out/policy"))
    assert len(policy.shards) > 2 and sum(policy.counts().values()) == STEPS * BATCH
    replay = f"selection.selector={{replay: {{run: {tmp_path}/out}}}}"
    for name, more in (("small", SMALL), ("whole", "memory=1GiB")):
        assert go(recipe(replay, more, f"output={tmp_path}/{name}"))["sha256"] == first["sha256"]


@pytest.mark.slow
def test_another_memory_begins_another_epoch(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    run = start(recipe(SMALL))
    for number, step in enumerate(run.steps(), 1):
        run.record(step)
        if number == 5:
            break
    place = run.pool.place
    assert start(recipe()).pool.place == PoolPosition(place.epoch + 1)
    assert go(recipe())["steps"] == STEPS


@pytest.mark.slow
def test_what_can_not_be_is_one_line(recipe: Callable[..., LearnRecipe]) -> None:
    with pytest.raises(UserError, match="does not fit into 100,000 bytes of memory at 64 px"):
        go(recipe("memory=100kB"))
    with pytest.raises(UserError, match="a super-batch of 40 candidates does not fit into a window"):
        go(recipe(SMALL, "selection.filtering_ratio=0.8"))


@pytest.fixture
def snapshot(tmp_path: Path) -> str:
    """A corpus of two shards of 71 samples."""
    corpus = write_corpus(tmp_path / "source", shards=2, n=80, flaws=False)
    recipe = write_recipe(tmp_path / "r.yaml", f"{corpus}", f"{tmp_path}/cur", "", "", **PLAIN, shards={"samples": 80})
    curate(recipe)
    return f"data={tmp_path}/cur"


@pytest.mark.slow
def test_what_will_not_fit_later_is_told_at_the_start(recipe: Callable[..., LearnRecipe], snapshot: str) -> None:
    with pytest.raises(UserError, match="a super-batch of 38 candidates does not fit into a window of 30"):
        start(recipe(SMALL, "selection.filtering_ratio={start: 0, end: 0.8}"))
    with pytest.raises(UserError, match=r"cur/.* samples, and a window of candidates has room for 25"):
        start(recipe(f"memory={100 * PIXELS}", snapshot, "selection.filtering_ratio=0"))


@pytest.mark.slow
def test_windows_without_a_sample_are_told_as_such(
    recipe: Callable[..., LearnRecipe], snapshot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Candidates.read_shard

    def nothing(self: Candidates, *arguments: Any) -> tuple[Block, Counter[str]]:
        block, _ = read(self, *arguments)
        empty = replace(block, pixels=block.pixels[:0], targets=block.targets[:0], uids=block.uids[:0], fields={})
        return empty, Counter(no_class=len(block))

    monkeypatch.setattr(Candidates, "read_shard", nothing)
    run = start(recipe(SMALL, snapshot, "selection.filtering_ratio=0"))
    with pytest.raises(EmptyCorpusError, match=r"cur@1 has 0 samples to train on \(skipped: no_class \d+\)"):
        next(run.steps())


@pytest.mark.slow
def test_a_classifier_over_windows(recipe: Callable[..., LearnRecipe], tmp_path: Path) -> None:
    kind = f"learner={{classification: {{model: {TINY}, steps: {STEPS}, batch: {BATCH}, label: name}}}}"
    found = go(recipe(SMALL, kind, "selection={}", "reference=null"))
    assert found["steps"] == STEPS and found["samples"]["pool"] > 60
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert any("chosen_share" in row for row in rows)


@pytest.mark.slow
def test_a_shard_that_could_not_be_read_is_read_when_it_is_asked_for_again(
    recipe: Callable[..., LearnRecipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same holds if it was read ahead."""
    blocks = start(recipe(SMALL)).pool.blocks
    read, away = Candidates.read_shard, [True]

    def flaky(self: Candidates, *arguments: Any) -> Any:
        if away[0]:
            raise TransientError("the store is away")
        return read(self, *arguments)

    monkeypatch.setattr(Candidates, "read_shard", flaky)
    with pytest.raises(TransientError):
        blocks.extent(5, 0)
    away[0] = False
    assert blocks.extent(5, 0) is not None


@pytest.mark.slow
def test_a_shard_that_a_window_has_no_room_for_is_told_with_the_memory_that_it_takes(
    recipe: Callable[..., LearnRecipe],
) -> None:
    few = "selection.filtering_ratio=0"
    with pytest.raises(UserError, match="has 14 samples, and a window of candidates has room for 12") as caught:
        go(recipe(few, f"memory={48 * PIXELS}"))
    wanted = int(str(caught.value.fix).split()[1].replace(",", ""))
    assert wanted == 4 * 14 * PIXELS and go(recipe(few, f"memory={wanted}"))["steps"] == STEPS


@pytest.mark.slow
def test_a_replay_that_does_not_fit_reads_a_shard_once_for_many_steps(
    recipe: Callable[..., LearnRecipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = go(recipe())
    reads, read = Counter[int](), Candidates.read

    def counted(self: Candidates, ordinal: int, *arguments: Any) -> Any:
        reads[ordinal] += 1
        return read(self, ordinal, *arguments)

    monkeypatch.setattr(Candidates, "read", counted)
    replay = f"selection.selector={{replay: {{run: {tmp_path}/out}}}}"
    assert go(recipe(replay, SMALL, f"output={tmp_path}/small"))["sha256"] == first["sha256"]
    groups = -(-STEPS // (2 * 30 // BATCH))
    assert max(reads.values()) <= groups + 3  # once a group, and to begin, to see whether it is the same, to record it
