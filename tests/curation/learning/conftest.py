"""What all tests of runs are given."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from builders import write_weights


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("weights") / "proxy-mu.safetensors"
    return path, write_weights(path)
