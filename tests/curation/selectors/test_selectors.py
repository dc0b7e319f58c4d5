"""Every selector against its definition, computed by brute force; and what all of them promise."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from curation.models.model_outputs import Losses, PairEmbeddings, PairwiseLoss
from curation.selectors import SELECTORS, Selector
from curation.selectors.blend import Blend, EasyReference, HardLearner, Learnability
from curation.selectors.draw import draw, top
from curation.selectors.joint import Joint, sigmoid_added, softmax_added
from curation.selectors.schedule import Ramp, at
from curation.selectors.uniform import Shuffled

CHOOSING = sorted(set(SELECTORS) - {"replay", "uniform"})
NEEDED: dict[str, dict[str, Any]] = {"replay": {"run": "demo/learned"}}  # fields without a default


def pairs(count: int, seed: int, temperature: float = 5.0, bias: float = -2.0) -> PairEmbeddings:
    generator = torch.Generator().manual_seed(seed)
    image, text = (normalize(torch.randn(count, 6, generator=generator), dim=-1) for _ in range(2))
    return PairEmbeddings(image, text, temperature, bias)


def outputs(count: int = 12) -> dict[Any, PairEmbeddings]:
    return {"online": pairs(count, 1), "reference": pairs(count, 2)}


def sub_batch_loss(outputs: PairEmbeddings, rows: torch.Tensor, loss: PairwiseLoss) -> torch.Tensor:
    """The summed loss that a learner would have on the pairs at `rows` alone."""
    if loss == "sigmoid":
        return outputs.sigmoid_losses()[rows][:, rows].sum()
    return (
        PairEmbeddings(outputs.image[rows], outputs.text[rows], outputs.temperature, outputs.bias)
        .softmax_losses()
        .sum()
    )


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- the contract, for every name in the table ------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_a_selector_is_a_frozen_dataclass_with_a_docstring(name: str) -> None:
    selector = SELECTORS[name](**NEEDED.get(name, {}))
    assert isinstance(selector, Selector) and (type(selector).__doc__ or "").strip()
    assert hash(selector) == hash(SELECTORS[name](**NEEDED.get(name, {})))


@pytest.mark.parametrize("name", CHOOSING)
@pytest.mark.parametrize("size", [1, 5, 12])
def test_different_rows_ascending_and_the_same_again(name: str, size: int) -> None:
    selector, given = SELECTORS[name](), {role: outputs()[role] for role in SELECTORS[name]().roles()}
    rows = selector.select(given, size, 0.3, seeded(7))
    assert rows.dtype == torch.int64 and rows.shape == (size,)
    assert rows.tolist() == sorted(set(rows.tolist())) and set(rows.tolist()) <= set(range(12))
    assert torch.equal(rows, selector.select(given, size, 0.3, seeded(7)))
    scores = selector.scores(given, 0.3)
    assert scores.shape == (12,) and scores.dtype == torch.float32


@pytest.mark.parametrize("name", CHOOSING)
def test_more_than_there_are_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="13 of 12"):
        SELECTORS[name]().select(outputs(), 13, 0.0, seeded())


# --- scores -----------------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_paper() -> None:
    seen = outputs()
    online = [-float(i @ t) for i, t in zip(seen["online"].image, seen["online"].text, strict=True)]
    reference = [-float(i @ t) for i, t in zip(seen["reference"].image, seen["reference"].text, strict=True)]

    def close(selector: Blend, wanted: list[float]) -> None:
        assert selector.scores(seen, 0.5).tolist() == pytest.approx(wanted, abs=1e-6)

    close(Learnability(), [o - r for o, r in zip(online, reference, strict=True)])
    close(EasyReference(), [-r for r in reference])
    close(HardLearner(), online)
    half_way = Blend(online=Ramp(start=0, end=1), reference=2)
    close(half_way, [0.5 * o - 2 * r for o, r in zip(online, reference, strict=True)])


def test_contrastive_scores_are_the_losses_among_all_candidates() -> None:
    ours, theirs = pairs(6, 0), pairs(6, 1)
    found = EasyReference(loss="softmax").scores({"reference": ours}, 0)
    logits = (ours.temperature * ours.image @ ours.text.T + ours.bias).tolist()
    for row in range(6):
        across = math.log(sum(math.exp(value) for value in logits[row]))
        down = math.log(sum(math.exp(other[row]) for other in logits))
        assert float(found[row]) == pytest.approx(logits[row][row] - (across + down) / 2, abs=1e-5)
    both = Learnability(loss="softmax").scores({"online": theirs, "reference": ours}, 0)
    torch.testing.assert_close(both, theirs.softmax_losses() + found)
    column = Losses(torch.arange(6.0))  # has no other losses than its own
    assert EasyReference(loss="softmax").scores({"reference": column}, 0).tolist() == (-column.values).tolist()


def test_only_the_models_that_count_are_asked() -> None:
    assert EasyReference().roles() == {"reference"}
    assert HardLearner().roles() == {"online"}
    assert Learnability().roles() == Joint().roles() == {"online", "reference"}
    assert Blend(online=Ramp(start=0, end=1)).roles() == {"online", "reference"}
    assert EasyReference().scores({"reference": Losses(torch.tensor([1.0, 3.0]))}, 0).tolist() == [-1, -3]


@pytest.mark.parametrize("kind", [Blend, Joint])
def test_nothing_to_choose_by_is_refused(kind: type[Any]) -> None:
    with pytest.raises(ValueError, match="nothing to choose by"):
        kind(online=0, reference=0)


# --- drawing ----------------------------------------------------------------------------------------------------


def test_top_is_the_top_and_ties_go_to_the_first() -> None:
    assert top(torch.tensor([0.0, 2, 2, 1, 2]), 2).tolist() == [1, 2]
    rho = Learnability(pick="top").select({"online": Losses(torch.tensor([1.0, 5, 3])),
                                           "reference": Losses(torch.tensor([0.0, 5, 1]))}, 2, 0, seeded())  # fmt: skip
    assert rho.tolist() == [0, 2]


def test_a_drawn_set_has_the_probability_of_drawing_one_after_the_other() -> None:
    """Chi-squared over all sets of 2 of 4, against the sum over both orders of the product of softmaxes."""
    logits, draws = torch.tensor([0.0, 1.0, -1.0, 0.5]), 20_000
    weights = logits.exp().tolist()
    total = sum(weights)
    expected: Counter[tuple[int, ...]] = Counter()
    for first, second in itertools.permutations(range(4), 2):
        chance = weights[first] / total * weights[second] / (total - weights[first])
        expected[tuple(sorted((first, second)))] += chance  # type: ignore[assignment]
    generator = seeded(3)
    seen = Counter(tuple(draw(logits, 2, generator).tolist()) for _ in range(draws))
    chi = sum((seen[key] - draws * chance) ** 2 / (draws * chance) for key, chance in expected.items())
    assert chi < 20.5, (chi, seen)  # 5 degrees of freedom: exceeded by chance once in 1,000 seeds


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20), st.data())
@settings(max_examples=60)
def test_a_high_gain_is_the_top(scores: list[float], data: st.DataObject) -> None:
    distinct = torch.tensor([round(value, 1) + index * 1e-3 for index, value in enumerate(scores)])
    size = data.draw(st.integers(0, len(scores)))
    drawn = Blend(gain=1e9, reference=0).select({"online": Losses(distinct)}, size, 0, seeded(1))
    assert torch.equal(drawn, top(distinct, size))


def test_a_gain_of_nothing_is_uniform() -> None:
    generator = seeded(5)
    easy = EasyReference(gain=0.0)
    seen = Counter(
        row for _ in range(4000) for row in easy.select({"reference": pairs(8, 2)}, 2, 0, generator).tolist()
    )
    assert all(abs(count - 1000) < 4 * (8000 * 0.125 * 0.875) ** 0.5 for count in seen.values())


def test_schedules() -> None:
    ramp = Ramp(start=2, end=10, until=0.5)
    assert [at(ramp, progress) for progress in (0, 0.25, 0.5, 1)] == [2, 6, 10, 10]
    assert at(3, 0.7) == 3
    with pytest.raises(ValueError, match="share of the run"):
        Ramp(start=0, end=1, until=0)


def test_shuffled_scores_choose_regardless_of_the_candidate() -> None:
    generator = seeded(6)
    control, best = Shuffled(of=Blend(gain=50.0)), {"online": Losses(torch.tensor([9.0, 0, 0, 0])),
                                                    "reference": Losses(torch.zeros(4))}  # fmt: skip
    seen = Counter(control.select(best, 1, 0, generator).item() for _ in range(4000))
    assert all(abs(seen[row] - 1000) < 4 * (4000 * 0.25 * 0.75) ** 0.5 for row in range(4))


# --- joint selection --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["sigmoid", "softmax"])
@pytest.mark.parametrize("chosen", [[], [3], [0, 4, 7]])
def test_what_a_candidate_adds_is_the_difference_of_two_batches(loss: Any, chosen: list[int]) -> None:
    seen, rows = pairs(9, 4), torch.tensor(chosen, dtype=torch.int64)
    added = (sigmoid_added if loss == "sigmoid" else softmax_added)(seen)(rows)
    before = sub_batch_loss(seen, rows, loss)
    for candidate in set(range(9)) - set(chosen):
        after = sub_batch_loss(seen, torch.cat([rows, torch.tensor([candidate])]), loss)
        assert float(added[candidate]) == pytest.approx(float(after - before), abs=1e-4)


def test_the_sigmoid_matrix_is_the_loss_of_the_paper() -> None:
    seen = pairs(5, 8)
    for i, j in itertools.product(range(5), repeat=2):
        logit = seen.temperature * float(seen.image[i] @ seen.text[j]) + seen.bias
        chance = 1 / (1 + torch.tensor(-logit if i == j else logit).exp())
        assert float(seen.sigmoid_losses()[i, j]) == pytest.approx(-float(chance.log()), abs=1e-5)


@pytest.mark.parametrize("loss", ["sigmoid", "softmax"])
def test_greedy_joint_selection_is_the_greedy_search(loss: Any) -> None:
    """With one sample a chunk and a huge gain each chunk takes what adds most, as a search over all candidates does."""
    seen = outputs(10)

    def worth(rows: list[int]) -> float:
        online, reference = (sub_batch_loss(seen[role], torch.tensor(rows), loss) for role in ("online", "reference"))
        return float(online - reference)

    # One pair alone has no softmax loss, so the first is drawn uniformly: take the selector's own.
    chosen = [] if loss == "sigmoid" else Joint(gain=1e9, chunks=1, loss=loss).select(seen, 1, 0, seeded(11)).tolist()
    while len(chosen) < 4:
        chosen.append(max(set(range(10)) - set(chosen), key=lambda row: worth([*chosen, row])))
    assert Joint(gain=1e9, chunks=4, loss=loss).select(seen, 4, 0, seeded(11)).tolist() == sorted(chosen)


def test_one_chunk_is_independent_selection() -> None:
    seen = outputs(10)
    diagonal = (seen["online"].sigmoid_losses() - seen["reference"].sigmoid_losses()).diagonal()
    selector = Joint(gain=3.0, chunks=1, loss="sigmoid")
    assert torch.equal(selector.select(seen, 4, 0, seeded(2)), draw(3.0 * diagonal.double(), 4, seeded(2)))
    assert torch.equal(selector.scores(seen, 0), diagonal)


def test_joint_selection_takes_the_loss_of_the_online_model() -> None:
    for loss, other in (("softmax", "sigmoid"), ("sigmoid", "softmax")):
        seen = {role: replace(one, loss=loss if role == "online" else other) for role, one in outputs(10).items()}
        told, silent = Joint(chunks=3, loss=loss), Joint(chunks=3)  # type: ignore[arg-type]
        assert torch.equal(silent.select(seen, 6, 0, seeded(3)), told.select(seen, 6, 0, seeded(3)))
        assert torch.equal(silent.scores(seen, 0), told.scores(seen, 0)) and silent.scores(seen, 0).std() > 0
        alone = Joint(chunks=3, online=0.0)
        assert torch.equal(
            alone.select(seen, 6, 0, seeded(3)), replace(alone, loss=other).select(seen, 6, 0, seeded(3))
        )


@pytest.mark.parametrize("name", [name for name in CHOOSING if name != "shuffled"])
@pytest.mark.parametrize("gain", [-3, -1e-9, float("nan"), float("inf"), 1e10, Ramp(start=1.0, end=-0.5)])
def test_a_gain_that_would_turn_the_selection_around_is_refused(name: str, gain: Any) -> None:
    with pytest.raises(ValueError, match=r"gain is .*, but must be from 0 to 1,000,000,000"):
        SELECTORS[name](gain=gain)
    for field in ("online", "reference"):
        with pytest.raises(ValueError, match=rf"{field} is .*a negative weight prefers"):
            SELECTORS[name](**{field: -1.0})


def test_a_ramp_has_two_numbers() -> None:
    for start, end in ((float("nan"), 1.0), (1.0, float("inf"))):
        with pytest.raises(ValueError, match="it is a finite number"):
            Ramp(start=start, end=end)


def test_more_chunks_than_samples_are_one_each() -> None:
    assert len(Joint(chunks=16).select(outputs(), 5, 0, seeded())) == 5
    assert len(Joint(chunks=5).select(outputs(), 12, 0, seeded())) == 12  # not a multiple: no sample is lost


def test_joint_selection_needs_vectors() -> None:
    with pytest.raises(ValueError, match="vectors"):
        Joint().select({"online": pairs(4, 1), "reference": Losses(torch.zeros(4))}, 2, 0, seeded())
