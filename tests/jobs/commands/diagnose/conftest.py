"""The planted failure that tests of `curate diagnose` share, built once a process."""

from __future__ import annotations

from pathlib import Path

import pytest
from diagnosed import build


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of training data, model and field. Files that a test makes there stay for the next."""
    return build(tmp_path_factory.mktemp("diagnose"))
