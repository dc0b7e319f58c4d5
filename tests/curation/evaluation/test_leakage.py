"""A model that has seen what a run judges on is refused as its reference, and reported of a snapshot's scorers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import write_corpus, write_shard, write_weights
from learning_runs import go, quiet

from curation.core.errors import UserError
from curation.evaluation.job import TrainingJob
from curation.evaluation.leakage import leaks_of_scorers
from curation.evaluation.training import run
from curation.learners.training import Training
from curation.learning.data import read_data
from curation.learning.pinned_input import pin_input
from curation.learning.sources import resolve
from curation.recipes.learning_recipe import LearnRecipe, parse_learn_recipe
from curation.storage.store import StoreOptions
from jobs.commands.learn import report

Proxy = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("seen")
    write_corpus(home / "corpus", shards=2, n=60, flaws=False)
    shutil.copytree(home / "corpus", home / "copied", copy_function=shutil.copy2)
    write_shard(home / "other" / "7.tar", 7, 60, flaws=False)
    return home


@pytest.fixture(scope="module")
def proxy(home: Path) -> Proxy:
    """Cards of proxies, each trained once."""
    made: dict[tuple[str, float], dict[str, Any]] = {}

    def of(data: str, holdout: float) -> dict[str, Any]:
        if (data, holdout) not in made:
            job = TrainingJob(
                data=f"{home}/{data}", model="proxy-mu", out=f"{home}/{data}-{holdout}", holdout=holdout,
                evaluated=False, training=Training(steps=1, batch=8), device="cpu", threads=1,
            )  # fmt: skip
            made[data, holdout] = run(job)
        return made[data, holdout]

    return of


def recipe(home: Path, weights: str, sha256: str, *overrides: str) -> LearnRecipe:
    text = f"""
data: {home}/corpus
output: {home}/out
learner: {{contrastive: {{model: proxy-mu, steps: 2, batch: 8}}}}
reference: {{model: proxy-mu, weights: {weights}, sha256: {sha256}}}
selection: {{selector: easy_reference}}
holdout: 0.3
"""
    return parse_learn_recipe(text, overrides=overrides)


def unchecked(home: Path, card: dict[str, Any], *overrides: str) -> tuple[str, ...]:
    one = recipe(home, card["weights"], card["sha256"], *overrides)
    return read_data(one, pin_input(one), quiet).unchecked


@pytest.mark.slow
def test_a_reference_that_held_out_as_much_is_fine(home: Path, proxy: Proxy) -> None:
    assert unchecked(home, proxy("corpus", 0.3)) == ()
    assert unchecked(home, proxy("corpus", 0.3), "holdout=0.2") == ()
    assert unchecked(home, proxy("other", 0.0)) == (), "another corpus"


@pytest.mark.slow
@pytest.mark.parametrize("data", ["corpus", "copied"])
def test_a_reference_with_another_holdout_is_refused(home: Path, proxy: Proxy, data: str) -> None:
    with pytest.raises(UserError, match=r"held out 10% of the names, and the run 30%") as caught:
        unchecked(home, proxy(data, 0.1))
    assert "holdout: 0.1" in (caught.value.fix or "") and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="held out 0% of the names"):
        unchecked(home, proxy(data, 0.0))


@pytest.mark.slow
def test_all_of_an_evaluation_set_is_judged_on(home: Path, proxy: Proxy) -> None:
    data = f"data={home}/other", f"evaluation={home}/corpus"
    with pytest.raises(UserError, match="and the run is judged on all"):
        unchecked(home, proxy("corpus", 0.3), *data, "holdout=0")
    assert unchecked(home, proxy("corpus", 0.3), *data) == ()
    assert unchecked(home, proxy("other", 0.0), *data, "holdout=0") == ()


def test_a_classifier_holds_out_pictures_and_not_names(home: Path, proxy: Proxy) -> None:
    classes = "learner={classification: {model: proxy-mu, steps: 2, batch: 8}}"
    with pytest.raises(UserError, match="30% of the names, and the run 30% of the pictures"):
        unchecked(home, proxy("corpus", 0.3), classes)


@pytest.mark.slow
def test_weights_without_their_card_say_it_in_their_header(home: Path, proxy: Proxy, tmp_path: Path) -> None:
    for data, holdout, says in (
        ("corpus", 0.1, "held out 10%"),
        ("corpus", 0.3, ""),
        ("other", 0.1, "doesn't record where"),
    ):
        card = proxy(data, holdout)
        moved = {**card, "weights": f"{tmp_path}/{data}.safetensors"}
        shutil.copy(card["weights"].removeprefix("file://"), moved["weights"])
        if data == "other":
            (line,) = unchecked(home, moved)
            assert "is not known: " in line and says in line
        elif says:
            with pytest.raises(UserError, match=says):
                unchecked(home, moved)
        else:
            assert unchecked(home, moved) == ()


@pytest.mark.slow
def test_where_nothing_is_recorded_the_report_says_so(home: Path, tmp_path: Path) -> None:
    sha = write_weights(tmp_path / "w.safetensors")
    found = go(recipe(home, f"{tmp_path}/w.safetensors", sha, f"output={tmp_path}/out"))
    (line,) = found["unchecked"]
    assert "is not known: no card of it lies beside the weights" in line
    assert [text for text in report(found, "proxy-mu").splitlines() if text == f"WARNING  {line}"]


def test_an_older_card_split_by_an_earlier_rule(home: Path, proxy: Proxy, tmp_path: Path) -> None:
    card = proxy("corpus", 0.3)
    folder = shutil.copytree(f"{home}/corpus-0.3", tmp_path / "old")
    older = json.loads((folder / "card.json").read_text())
    del older["recipe"]["holdout_rule"], older["trained_on"]
    (folder / "card.json").write_text(json.dumps(older))
    (line,) = unchecked(home, {**card, "weights": f"{folder}/proxy-mu.safetensors"})
    assert "split by an earlier rule" in line
    (folder / "card.json").write_text("[]")
    assert unchecked(home, {**card, "weights": f"{folder}/proxy-mu.safetensors"}) == (), "the header says it"


@pytest.mark.slow
def test_a_learner_that_becomes_a_reference(home: Path, tmp_path: Path) -> None:
    plain = "selection={}", "reference=null", f"output={tmp_path}/first"
    first = go(recipe(home, "w", "a" * 64, *plain))
    with pytest.raises(UserError, match="held out 30% of the names, and the run 45%"):
        unchecked(home, first, "holdout=0.45")
    assert unchecked(home, first) == ()


def test_evaluate_reports_scorers_that_have_seen_what_is_judged_on(home: Path, proxy: Proxy) -> None:
    seen, apart = proxy("corpus", 0.1), proxy("corpus", 0.3)
    scorers = [
        {"clip_score": {name: card[name] for name in ("model", "weights", "sha256")}} for card in (seen, apart)
    ] + [{"caption_stats": None}]  # fmt: skip
    (line,) = leaks_of_scorers({"scorers": scorers}, resolve(f"{home}/corpus", StoreOptions()), 0.3)
    assert line.startswith("the model of clip_score was trained on samples that models are judged on")
    assert len(leaks_of_scorers({"scorers": scorers}, resolve(f"{home}/corpus", StoreOptions()), 0.0)) == 2
    assert leaks_of_scorers({"scorers": scorers}, resolve(f"{home}/other", StoreOptions()), 0.0) == []
