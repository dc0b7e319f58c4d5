"""The device that models run on."""

from __future__ import annotations

import torch

from curation.core.errors import UserError


def pick_device(name: str) -> torch.device:
    """`auto`: the accelerator where there is one. Raises `UserError` for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        line = str(error).splitlines()[0]
        raise UserError(f"device {name!r} can't be used: {line}", fix="--device auto takes what is there") from None
    return device
