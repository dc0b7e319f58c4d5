"""What all tests of runs are given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from builders import write_weights
from tiny_model import tiny_model


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with tiny_model(tmp_path_factory.mktemp("model")) as name:
        yield name


@pytest.fixture(scope="package")
def weights(model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    return path, write_weights(path, model)
