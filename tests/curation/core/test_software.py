"""Versions are recorded once, and records name them shortly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curation.core import software
from curation.ledger.software_records import record_software
from curation.storage.store import Store, open_store


def test_versions_of_what_decodes_and_computes() -> None:
    found = software.software()
    assert {"python", "simplejpeg", "pillow", "numpy", "torch", "pyarrow", "duckdb"} < set(found)
    assert any(name.startswith("opencv") for name in found)
    assert "nothing-of-this-name" not in found and all(found.values())


def test_the_versions_are_put_once_a_process_and_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path / "s"))
    name = record_software(store)
    assert json.loads(store.get(f"software/{name}.json")) == software.software() and len(name) == 16
    monkeypatch.setattr(Store, "create", None)
    assert record_software(store) == name


def test_other_versions_have_another_digest() -> None:
    versions = software.software()
    assert software.software_id(dict(reversed(versions.items()))) == software.software_id(versions)
    assert software.software_id({**versions, "torch": "0"}) != software.software_id(versions)
