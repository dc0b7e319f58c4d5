"""A ledger in a folder of the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.ledger.ledger import Ledger
from curation.storage.store import open_store


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(open_store(str(tmp_path / "out")))
