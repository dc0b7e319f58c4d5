"""Choice of the device that models run on."""

from __future__ import annotations

import torch

from curation.core.errors import UserError


def pick_device(name: str) -> torch.device:
    """Return the torch device called `name`; `auto` means CUDA where available, else the CPU.

    Raises `UserError` for a device that torch can't use.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        line = str(error).splitlines()[0]
        fix = "--device auto chooses an available device"
        raise UserError(f"device {name!r} can't be used: {line}", fix=fix) from None
    return device
