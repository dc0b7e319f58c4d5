"""Scorers of label cleaning: their values against definitions in plain Python, and why a sample has none."""

from __future__ import annotations

from math import log
from pathlib import Path

import numpy as np
import pytest
from scorers_given import CLASSES, CPU, Fields, batch, content, make, write, write_probabilities

from curation.core.distributions import LEAST
from curation.core.errors import RecipeError, UserError, WeightsError
from curation.core.folds import fold_of
from curation.models.fold_classifiers import CONTENTS, shared_fold_classifiers
from curation.models.weights import Weights, read_tensors, tensors_to_bytes
from curation.scorers import PartlyScored

ROWS = list(range(14))  # the first 9 are listed in the file as pictures of the training


def values(name: str, fields: dict[str, object]) -> list[object]:
    scorer = make(name, fields)
    found = scorer.load(CPU)(batch(ROWS, scorer))
    return (found.values if isinstance(found, PartlyScored) else found).to_pylist()  # type: ignore[union-attr]


def test_folds_give_all_figures(given: Fields) -> None:
    fields = given["label_posterior"]
    folds = shared_fold_classifiers("proxy-mu", Weights(fields["weights"], fields["sha256"]), CPU, None)
    pixels = batch(ROWS, make("label_posterior", fields)).pixels(folds.preprocess)
    each = [folds._distributions(number, pixels) for number in range(4)]
    runs = []
    for number in range(2):
        pair = each[2 * number : 2 * number + 2]
        own = [fold_of(content(row), 2, number) for row in ROWS]
        runs.append([pair[own[row]][row] if row < 9 else (pair[0][row] + pair[1][row]) / 2 for row in ROWS])
    posterior = [(one + other) / 2 for one, other in zip(*runs, strict=True)]
    assert values("label_posterior", fields) == [pytest.approx(p.tolist(), abs=1e-6) for p in posterior]
    label = [row % 3 for row in ROWS]
    error = [-log(max(p[k], LEAST), 3) for p, k in zip(posterior, label, strict=True)]
    assert values("label_error", fields) == pytest.approx(error, abs=1e-5)
    assert values("label_ambiguity", fields) == pytest.approx([bits(p) for p in posterior], abs=1e-5)
    apart = [bits(p) - (bits(a) + bits(b)) / 2 for p, a, b in zip(posterior, *runs, strict=True)]
    assert values("label_disagreement", fields) == pytest.approx(apart, abs=1e-5)
    margin = [max(p[j] for j in range(3) if j != k) - p[k] for p, k in zip(posterior, label, strict=True)]
    assert values("label_margin", fields) == pytest.approx(margin, abs=1e-5)


def bits(p: np.ndarray) -> float:
    return -sum(x * log(x, 3) for x in p)


def test_a_table_gives_the_same_figures(tmp_path: Path) -> None:
    table = write_probabilities(tmp_path / "p", ROWS)
    posterior = values("label_posterior", table)
    error = values("label_error", {**table, "classes": CLASSES})
    assert error == pytest.approx([-log(p[row % 3], 3) for row, p in enumerate(posterior)], abs=1e-5)  # type: ignore[index]


def test_reasons(tmp_path: Path) -> None:
    scorer = make("label_error", {**write_probabilities(tmp_path / "p", ROWS[:4]), "classes": ["cat", "dog", "owl"]})
    given = batch(ROWS[:6], scorer)
    given.columns["json.name"][0], given.columns["json.name"][1] = None, ["cat"]  # type: ignore[index]
    found = scorer.load(None)(given)  # type: ignore[arg-type]
    assert isinstance(found, PartlyScored)
    expected = {0: "no_label", 1: "bad_label", 2: "unknown_class", 4: "no_probabilities", 5: "unknown_class"}
    assert found.reasons == expected


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "give either weights, with model, or probabilities"),
        ({"weights": "w", "probabilities": "p", "model": "proxy-mu"}, "give either weights"),
        ({"weights": "w"}, "model and weights must be given together"),
        ({"probabilities": "p", "model": "proxy-mu"}, "model and weights must be given together"),
    ],
)
def test_one_source_is_given(fields: dict[str, str], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        make("label_ambiguity", {"sha256": "0" * 64, **fields})
    with pytest.raises(RecipeError, match="2 runs or more"):
        make("label_disagreement", {"sha256": "0" * 64, "probabilities": "p"})


def test_files_that_do_not_fit(given: Fields, tmp_path: Path) -> None:
    fields = given["label_error"]
    make("label_error", {**fields, "classes": CLASSES}).check()  # type: ignore[attr-defined]
    with pytest.raises(WeightsError, match="the recipe names others"):
        make("label_error", {**fields, "classes": CLASSES[::-1]}).check()  # type: ignore[attr-defined]
    with pytest.raises(WeightsError, match="has no classifiers of folds"):
        make("label_error", given["clip_score"]).check()  # type: ignore[attr-defined]
    with pytest.raises(WeightsError, match="of model proxy-mu, not of proxy-ti"):
        make("label_error", {**fields, "model": "proxy-ti"}).check()  # type: ignore[attr-defined]
    table = write_probabilities(tmp_path / "p", ROWS)
    make("label_posterior", table).check()  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="does not name its classes"):
        make("label_error", table).load(CPU)
    tensors = read_tensors(fields["weights"])
    one = {
        "format": "pt",
        "model": "proxy-mu",
        "classes": '["cat","dog","fox"]',
        "folds": '{"folds":2,"runs":1,"rule":1}',
    }
    half = {name: tensor for name, tensor in tensors.items() if name.startswith("0.") or name == CONTENTS}
    single = {**fields, **write(tmp_path / "s", tensors_to_bytes(half, one))}
    with pytest.raises(UserError, match="has 1 run, and a disagreement needs at least 2"):
        make("label_disagreement", single).load(CPU)
    for changes, words in (
        ({"folds": '{"folds":2,"runs":1,"rule":9}'}, "folds of another version"),
        ({"folds": "[]"}, "folds of another version"),
        ({"classes": "[]"}, "names no classes"),
    ):
        broken = {**fields, **write(tmp_path / "b", tensors_to_bytes(half, one | changes))}
        with pytest.raises(WeightsError, match=words):
            make("label_posterior", broken).load(CPU)
