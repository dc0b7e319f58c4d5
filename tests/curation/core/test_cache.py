"""The cache folder keeps its name on Linux, so that existing caches survive."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from curation.core.cache import cache_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other platforms have other folders")


def test_the_variable_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tutelage"
    assert not cache_folder().exists()


@pytest.mark.parametrize("value", [None, "", "relative/cache"])
def test_without_an_absolute_path_it_is_below_home(
    value: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if value is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert cache_folder() == tmp_path / ".cache" / "tutelage"
