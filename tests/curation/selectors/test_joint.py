"""Joint selection (JEST): each chunk against a greedy search over all candidates."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from selector_outputs import outputs, pairs, seeded, sub_batch_loss

from curation.models.model_outputs import Losses
from curation.selectors.draw import draw
from curation.selectors.joint import Joint, sigmoid_growth, softmax_growth


@pytest.mark.parametrize("loss", ["sigmoid", "softmax"])
@pytest.mark.parametrize("chosen", [[], [3], [0, 4, 7]])
def test_what_a_candidate_adds_is_the_difference_of_two_batches(loss: Any, chosen: list[int]) -> None:
    seen, rows = pairs(9, 4), torch.tensor(chosen, dtype=torch.int64)
    added = (sigmoid_growth if loss == "sigmoid" else softmax_growth)(seen)(rows)
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


def test_more_chunks_than_samples_are_one_each() -> None:
    assert len(Joint(chunks=16).select(outputs(), 5, 0, seeded())) == 5
    assert len(Joint(chunks=5).select(outputs(), 12, 0, seeded())) == 12  # not a multiple: no sample is lost


def test_joint_selection_needs_vectors() -> None:
    with pytest.raises(ValueError, match="vectors"):
        Joint().select({"online": pairs(4, 1), "reference": Losses(torch.zeros(4))}, 2, 0, seeded())
