"""The device that a name picks."""

from __future__ import annotations

import pytest
import torch
from services import one_line

from curation.core.errors import UserError
from curation.models.devices import pick_device


def test_auto_takes_the_accelerator_if_there_is_one() -> None:
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:97", "gpu", "", "mps:0:1"])
def test_a_device_that_is_missing_is_one_line_with_the_fix(name: str) -> None:
    with pytest.raises(UserError, match="can't be used") as caught:
        pick_device(name)
    assert "auto" in one_line(caught.value)
