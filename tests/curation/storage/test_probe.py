"""The probe before a run: only stores that honour create-only puts are written to."""

from __future__ import annotations

import pytest
from broken_s3 import BrokenS3
from services import one_line

from curation.core.errors import (
    UnsafeStoreError,
)
from curation.storage.probe import probe
from curation.storage.store import Store


@pytest.mark.parametrize("broken", ["ignores", "refuses", "replaces"], indirect=True)
def test_unsafe_stores_are_refused(broken: tuple[BrokenS3, Store]) -> None:
    server, store = broken
    with pytest.raises(UnsafeStoreError) as caught:
        probe(store)
    text = one_line(caught.value)
    assert "s3://bucket/p" in text and "create-only" in text and "If-None-Match" in text
    assert not server.objects
    with pytest.raises(UnsafeStoreError):  # only good answers are remembered
        probe(store)
