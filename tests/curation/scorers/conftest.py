"""Every scorer of the table, made once."""

from __future__ import annotations

import pytest
from scorers_given import Fields, all_fields


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory) -> Fields:
    """Fields of every scorer of the table, with real files."""
    return all_fields(tmp_path_factory.mktemp("weights"))
