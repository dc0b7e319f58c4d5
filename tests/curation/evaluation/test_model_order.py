"""Models under several labellings: accuracy, ranks, tau, and the pairs that change places."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from services import one_line

from curation.core.errors import UserError
from curation.evaluation.model_order import kendall_tau, model_order

TRUE = ["cat", "dog"] * 50
NOISY = ["dog" if row < 20 else label for row, label in enumerate(TRUE)]  # 10 cats are labelled dog
OVERFITTED = ["dog" if row < 20 else "cat" if row > 90 else label for row, label in enumerate(TRUE)]
HONEST = [label if row != 50 else "dog" for row, label in enumerate(TRUE)]


def judged() -> dict[str, Any]:
    return model_order({"overfitted": OVERFITTED, "honest": HONEST}, {"before": NOISY, "after": TRUE})


def test_two_models_change_places_on_cleaned_labels() -> None:
    found = judged()
    before, after = ({model: by[name] for model, by in found["models"].items()} for name in ("before", "after"))
    assert before["overfitted"]["rate"] == 0.95 and before["honest"]["rate"] == 0.89
    assert [before["overfitted"]["rank"], before["honest"]["rank"]] == [1, 2]
    assert [after["overfitted"]["rank"], after["honest"]["rank"]] == [2, 1] and after["honest"]["rate"] == 0.99
    assert found["orders"] == [{"from": "before", "to": "after", "tau": -1.0, "changed": 1}]
    (pair,) = found["pairs"]
    assert pair["changes"] == [["before", "after"]]
    assert pair["differences"]["before"]["word"] == "no difference shown"
    assert pair["differences"]["after"]["word"] == "worse"
    assert found["intervals"]["comparisons"] == 2 and found["models"]["honest"]["after"]["chance"] == 0.5
    assert json.loads(json.dumps(found)) == found


def test_samples_without_a_label_or_a_guess_are_left_out() -> None:
    labels = [None if row < 10 else label for row, label in enumerate(TRUE)]
    guesses = {"a": TRUE, "b": [None if row >= 95 else label for row, label in enumerate(TRUE)]}
    found = model_order(guesses, {"before": labels, "after": TRUE})
    assert found["labellings"] == {
        "before": {"samples": 85, "no_guess": 5},
        "after": {"samples": 95, "no_guess": 5},
    }
    assert found["orders"][0]["tau"] is None, "equal models have no order"
    assert found["models"]["a"]["after"]["total"] == 95 and found["models"]["b"]["before"]["rank"] == 1


def test_numbers_are_labels_too_and_ties_share_a_rank() -> None:
    truth = np.arange(30) % 3
    guesses = {"a": truth, "b": truth, "c": (truth + 1) % 3}
    found = model_order(guesses, {"only": truth})
    assert [by["only"]["rank"] for by in found["models"].values()] == [1, 1, 3]
    assert found["orders"] == [] and all(pair["changes"] == [] for pair in found["pairs"])


def test_one_model_has_an_accuracy_and_no_order() -> None:
    found = model_order({"a": TRUE}, {"before": NOISY, "after": TRUE})
    assert found["orders"][0]["tau"] is None and found["pairs"] == []


def test_a_labelling_without_samples_is_an_error() -> None:
    with pytest.raises(UserError, match="under the labelling 'after'") as caught:
        model_order({"a": TRUE}, {"before": NOISY, "after": [None] * 100})
    assert one_line(caught.value)


def test_tau_counts_ties() -> None:
    from scipy.stats import kendalltau

    assert kendall_tau([1, 2, 3], [1, 2, 3]) == 1 and kendall_tau([1, 1], [1, 2]) is None
    assert kendall_tau([1, 2, 2, 4], [1, 3, 2, 4]) == float(kendalltau([1, 2, 2, 4], [1, 3, 2, 4]).statistic)
