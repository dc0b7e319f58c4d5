"""AdamW with the decay of CLIP, and its moments as tensors that a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from curation.learners.training import Training


def adamw(module: nn.Module, training: Training) -> torch.optim.AdamW:
    """Return the optimiser of a training, with one fused update for all parameters."""
    groups = decay_groups(module, training.weight_decay)
    return torch.optim.AdamW(groups, lr=training.lr, betas=training.betas, eps=training.eps, fused=True)


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return AdamW's parameter groups: decay for matrices, none for norms, biases, positions and the temperature."""
    exempt = ("positional_embedding", "class_embedding", "logit_scale", "logit_bias")
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        (free if parameter.ndim < 2 or name.endswith(exempt) else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def moments(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return copies of an optimiser's moments on the CPU, as `optimiser.<parameter>.<name>`."""
    found: dict[str, Tensor] = {}
    for index, state in optimiser.state_dict()["state"].items():
        found |= {f"optimiser.{index}.{name}": value.detach().cpu().clone() for name, value in state.items()}
    return found


def restore_moments(optimiser: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    """Load copies of the moments that `moments` returned; other tensors of `state` are ignored."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if name.startswith("optimiser."):
            _, index, moment = name.split(".", 2)
            found.setdefault(int(index), {})[moment] = tensor.clone()
    optimiser.load_state_dict({"state": found, "param_groups": optimiser.state_dict()["param_groups"]})
