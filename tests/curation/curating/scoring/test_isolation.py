"""A scorer that raises, runs out of memory or ends its process: who is found guilty, and what the others are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scorers_given import CPU, all_fields, batch, make

from curation.core.errors import UserError
from curation.curating.scoring.batches import blanked, padded, part
from curation.curating.scoring.isolation import EVIDENCE, LEAST, Isolated
from curation.scorers import Batch, PartlyScored, Score
from curation.storage.errors import TransientError

N = 33


class NoBox:
    """A black box that keeps its notes and watches nothing."""

    def __init__(self) -> None:
        self.noted: list[Any] = []
        self.good: list[Any] = []
        self.bad: list[Any] = []

    def scoring(self, column: str, spans: Any) -> NoBox:
        self.noted.append(spans)
        return self

    def watched(self, seconds: float) -> NoBox:
        return self

    def cleared(self, column: str, spans: Any) -> None:
        self.good += spans

    def aside(self, column: str, spans: Any, how: str, what: str) -> None:
        self.bad.append((spans, how, what))

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        return None


def isolated(score: Score, *, pad: bool = False) -> Isolated:
    return Isolated("mine", score, pa.float32(), NoBox(), 60, pad)  # type: ignore[arg-type]


def spans(rows: np.ndarray) -> list[tuple[int, int, int]]:
    return [(0, int(rows.min()), int(rows.max()))] if len(rows) else []


def failing(score: Score, *rows: int, error: Callable[[], BaseException] = lambda: ValueError("no")) -> Score:
    """A scorer that raises where a batch has the captions of these rows of `batch`."""
    marked = {f"thing number {row} " for row in rows}

    def of(given: Batch) -> Any:
        if any(caption.startswith(tuple(marked)) for caption in given.captions):
            raise error()
        return score(given)

    return of


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Score, Batch]:
    scorer = make("clip_score", all_fields(tmp_path_factory.mktemp("models"))["clip_score"])
    return scorer.load(CPU), batch(list(range(N)), scorer)


@pytest.mark.slow
def test_a_batch_that_is_begun_and_waited_for_has_the_scores_of_one_that_is_not(clip: tuple[Score, Batch]) -> None:
    """As on a GPU: several scorers are begun, and then waited for."""
    score, given = clip
    valid = np.ones(N, bool)
    valid[9] = False
    expected, nobody = isolated(score).column(given, valid, spans, {})
    models = [isolated(score, pad=True), isolated(failing(score, 7), pad=True), isolated(score)]
    first, second, third = [model.begin(given, valid, spans, {}) for model in models]
    assert first()[0].equals(expected) and third()[0].equals(expected) and first()[1] == nobody
    whole, aside = isolated(failing(score, 7)).column(given, valid, spans, {})
    assert second()[0].equals(whole) and second()[1] == aside == {7: "poison_raised"}
    assert models[1].details.keys() == {7} and models[0].tried == models[0].good == 32 * 2
    known = {3: "poison_died"}
    deferred, plain = (isolated(score, pad=pad).begin(given, valid, spans, known, [5])() for pad in (True, False))
    assert deferred[0].equals(plain[0]) and deferred[1] == plain[1] == known


def test_what_shows_only_when_it_is_waited_for_is_found_all_the_same(clip: tuple[Score, Batch]) -> None:
    """A GPU reports some errors late: the samples at fault are looked for as ever."""
    score, given = clip

    class Late(torch.Tensor):
        def detach(self) -> Any:
            return self

        def numpy(self, *, force: bool = False) -> Any:
            raise ValueError("late")

    def late(some: Batch) -> Any:
        values = failing(score, 7)(some) if len(some.captions) < N else score(some)
        return values.as_subclass(Late) if len(some.captions) == N and not done else values

    done: list[bool] = []
    model = isolated(late, pad=True)
    finish = model.begin(given, np.ones(N, bool), spans, {})
    with pytest.raises(UserError, match="late"):  # for the whole batch and for no half of it
        isolated(late, pad=True).begin(given, np.ones(N, bool), spans, {})()
    done.append(True)
    assert finish()[0].null_count == 0


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("rows", [(7,), (0, 32), (3, 4, 5, 20)])
def test_neighbours_have_the_scores_that_they_would_have_had(
    rows: tuple[int, ...], pad: bool, clip: tuple[Score, Batch]
) -> None:
    score, given = clip
    valid = np.ones(N, bool)
    valid[9] = False
    whole, nobody = isolated(score, pad=pad).column(given, valid, spans, {})
    assert nobody == {} and whole.null_count == 1
    model = isolated(failing(score, *rows), pad=pad)
    values, aside = model.column(given, valid, spans, {})
    assert aside == dict.fromkeys(rows, "poison_raised")
    assert model.details.keys() == set(rows) and model.details[rows[0]] == "ValueError: no"
    wanted = [None if row in rows else value for row, value in enumerate(whole.to_pylist())]
    assert values.to_pylist() == wanted
    known, again = isolated(score, pad=pad).column(given, valid, spans, aside)
    assert known == values and again == aside


def test_few_calls_find_one_of_many() -> None:
    calls = []

    def score(given: Batch) -> torch.Tensor:
        calls.append(len(given.captions))
        return torch.zeros(len(given.captions))

    given = batch(list(range(256)))
    given = Batch(given.captions, {}, given.sizes)
    isolated(failing(score, 100)).column(given, np.ones(256, bool), spans, {})
    assert len(calls) <= 9  # the good half of each of 8 cuts, and all of them once more
    assert calls[-1] == 256


def test_a_scorer_that_fails_for_many_is_what_is_wrong() -> None:
    given = batch(list(range(N)))
    calls = []

    def score(given: Batch) -> torch.Tensor:
        calls.append(0)
        raise KeyError("weights")

    model = isolated(score)
    with pytest.raises(UserError, match=r"scorer mine fails: KeyError: 'weights' \(.*test_isolation.py:\d+"):
        model.column(given, np.ones(N, bool), spans, {})
    assert len(calls) < 3 * LEAST
    for error in (UserError("bad"), SystemExit(3)):
        always = failing(lambda b: torch.zeros(len(b.captions)), *range(N), error=lambda e=error: e)
        with pytest.raises(UserError, match="scorer mine"):
            isolated(always).column(given, np.ones(N, bool), spans, {})
    only_together = isolated(lambda b: torch.zeros(len(b.captions)) if len(b.captions) < N else [][0])
    with pytest.raises(UserError, match="IndexError"):
        only_together.column(given, np.ones(N, bool), spans, {})


@pytest.mark.parametrize("size", [4, 33])
def test_bad_samples_at_the_beginning_of_a_corpus_are_not_the_scorer(size: int) -> None:
    bad, n = range(9), 36
    model = isolated(failing(lambda b: torch.zeros(len(b.captions)), *bad))
    given = batch(list(range(n)))
    given = Batch(given.captions, {}, given.sizes)
    aside: list[int] = []
    for start in range(0, n, size):
        rows = np.arange(start, min(start + size, n))
        aside += [start + row for row in model.column(part(given, rows), np.ones(len(rows), bool), spans, {})[1]]
    assert sorted(aside) == list(bad)
    model.tried, model.raised = EVIDENCE, EVIDENCE // 2
    with pytest.raises(UserError, match="scorer mine fails"):
        model.column(part(given, np.arange(5)), np.ones(5, bool), spans, {})


def test_what_is_no_fault_of_a_sample_is_raised_at_once() -> None:
    given, valid = batch(list(range(N))), np.ones(N, bool)
    away = isolated(failing(lambda b: torch.zeros(len(b.captions)), 3, error=lambda: TransientError("later")))
    with pytest.raises(TransientError, match="later"):
        away.column(given, valid, spans, {})
    for wrong, says in ((torch.zeros(N + 1), "gives 34 values for 33 samples"), ([0.0] * N, "gives a list")):
        with pytest.raises(UserError, match=says):
            isolated(lambda b, wrong=wrong: wrong).column(given, valid, spans, {})


def test_an_exit_of_python_is_a_death_of_the_sample() -> None:
    score = failing(lambda b: torch.zeros(len(b.captions)), 3, error=lambda: SystemExit(3))
    assert isolated(score).column(batch(list(range(N))), np.ones(N, bool), spans, {})[1] == {3: "poison_died"}


@pytest.mark.slow
@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_too_little_memory_halves_the_batch_and_changes_no_score(
    error: type[BaseException], clip: tuple[Score, Batch]
) -> None:
    score, given = clip

    def large(batch: Batch) -> Any:
        if len(batch.captions) > 10:
            raise error("out of memory")
        return score(batch)

    whole, _ = isolated(score).column(given, np.ones(N, bool), spans, {})
    for pad in (False, True):
        model = isolated(large, pad=pad)
        values, aside = model.column(given, np.ones(N, bool), spans, {})
        assert aside == {} and model.size == 8 and values == whole
    hungry = isolated(failing(score, 5, error=lambda: error("out of memory")))
    values, aside = hungry.column(given, np.ones(N, bool), spans, {})
    assert aside == {5: "poison_raised"} and values.null_count == 1


def test_what_is_in_work_is_noted_by_its_rows_in_their_units() -> None:
    model = isolated(lambda b: torch.zeros(len(b.captions)))
    valid = np.ones(N, bool)
    valid[0] = False
    model.column(batch(list(range(N))), valid, spans, {1: "poison_died"}, alone=[4, 1, 9])
    box = model.box
    assert box.noted == [[(0, 4, 4)], [(0, 9, 9)], [(0, 2, 32)]]  # type: ignore[attr-defined]
    assert box.good == [(0, 4, 4), (0, 9, 9)] and not box.bad  # type: ignore[attr-defined]


def test_what_raises_is_noted_with_its_reason() -> None:
    for error, how in ((ValueError("no"), "poison_raised"), (SystemExit(3), "poison_died")):
        model = isolated(failing(lambda b: torch.zeros(len(b.captions)), 3, error=lambda e=error: e))
        model.column(batch(list(range(N))), np.ones(N, bool), spans, {})
        assert model.box.bad == [([(0, 3, 3)], how, f"{type(error).__name__}: {error}")]  # type: ignore[attr-defined]


def test_parts_of_batches() -> None:
    given = Batch(["a", "b", "c"], {"p": np.arange(1, 13, dtype=np.uint8).reshape(3, 2, 2)}, np.ones((3, 2), np.int32))
    some = part(given, np.array([2, 0]))
    assert some.captions == ["c", "a"] and some.views["p"][0, 0, 0] == 9
    full = padded(some, 4)
    assert full.captions == ["c", "a", "", ""] and full.views["p"].shape == (4, 2, 2) and not full.sizes[2:].any()
    blank = blanked(given, np.array([1]))
    assert blank.captions == ["a", "", "c"] and not blank.views["p"][1].any() and not blank.sizes[1].any()
    assert given.views["p"][1].all() and given.captions[1] == "b"


def partly(*rows: int, reason: str = "no_label") -> Score:
    """A scorer with a reason instead of a value for the samples with the captions of these rows of `batch`."""
    captions = batch(list(rows)).captions

    def score(given: Batch) -> PartlyScored:
        without = {row: reason for row, caption in enumerate(given.captions) if caption in captions}
        return PartlyScored(torch.ones(len(given.captions)), without)

    return score


@pytest.mark.parametrize("size", [N, 7])
def test_a_scorer_gives_reasons_and_is_not_at_fault(size: int) -> None:
    model, valid = isolated(partly(*range(30)), pad=True), np.ones(N, bool)
    model.size, valid[4] = size, False
    values, aside = model.column(batch(list(range(N))), valid, spans, {6: "poison_hung"})
    assert aside == {row: "poison_hung" if row == 6 else "no_label" for row in range(30) if row != 4}
    assert values.to_pylist() == [None] * 30 + [1.0] * 3 and model.raised == 0
    begun, aside = model.begin(batch(list(range(N))), valid, spans, {})()
    assert begun.equals(values) and aside == {row: "no_label" for row in range(30) if row != 4}
    assert model.column(batch([31]), np.ones(1, bool), spans, {})[1] == {}, "reasons of the last batch are forgotten"


def test_reasons_beside_a_sample_that_raises() -> None:
    model = isolated(failing(partly(2, 3), 3))
    assert model.column(batch(list(range(N))), np.ones(N, bool), spans, {})[1] == {2: "no_label", 3: "poison_raised"}


def test_a_reason_that_records_do_not_know_is_the_scorers_fault() -> None:
    with pytest.raises(UserError, match="scorer mine gives the unknown reason 'because'"):
        isolated(partly(2, reason="because")).column(batch([1, 2]), np.ones(2, bool), spans, {})
