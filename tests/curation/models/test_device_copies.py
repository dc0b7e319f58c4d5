"""Copies to and from a device. Without a GPU there is nothing to copy; tests/cuda has the rest."""

from __future__ import annotations

import torch

from curation.models.device_copies import to_device, to_host


def test_on_a_cpu_nothing_is_copied() -> None:
    tensor = torch.arange(6, dtype=torch.uint8).view(2, 3)
    assert to_device(tensor, torch.device("cpu")).data_ptr() == tensor.data_ptr()
    assert to_host(tensor)().data_ptr() == tensor.data_ptr()
