"""Fixtures of all tests of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from builders import write_corpus, write_weights
from learning_runs import BATCH, STEPS
from tiny_model import TINY, tiny_model

from curation.recipes.learning_recipe import LearnRecipe, parse_learn_recipe


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")  # a worker of xdist may run a module of another room next
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with tiny_model(tmp_path_factory.mktemp("model")) as name:
        yield name


@pytest.fixture(scope="module")
def weights(model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    return path, write_weights(path, model)


@pytest.fixture(scope="package")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("pool"), shards=2, n=60, flaws=False)


@pytest.fixture
def recipe(corpus: Path, weights: tuple[Path, str], tmp_path: Path) -> Callable[..., LearnRecipe]:
    text = f"""
data: {corpus}
output: {tmp_path / "out"}
learner:
  contrastive: {{model: {TINY}, steps: {STEPS}, batch: {BATCH}}}
online: {{model: {TINY}}}
reference: {{model: {TINY}, weights: {weights[0]}, sha256: {weights[1]}}}
selection: {{selector: {{learnability: {{gain: 10}}}}, filtering_ratio: 0.5}}
holdout: 0.3
by: [name]
evaluate_every: 6
checkpoint_every: 5
"""
    return lambda *overrides: parse_learn_recipe(text, overrides=overrides)
