"""AdamW's groups, and its moments in a checkpoint."""

from __future__ import annotations

import torch
from torch import nn

from curation.learners.optimiser import adamw, decay_groups, moments, restore_moments
from curation.learners.training import Training
from curation.models.architecture import build_model


def test_no_decay_on_norms_biases_positions_and_temperature() -> None:
    module = build_model("proxy-mu")
    decayed, free = (
        {name for name, p in module.named_parameters() if any(p is q for q in group["params"])}  # type: ignore[attr-defined]
        for group in decay_groups(module, 0.1)
    )
    assert {"logit_scale", "positional_embedding", "visual.class_embedding", "ln_final.weight"} <= free
    assert {"token_embedding.weight", "visual.conv1.weight", "text_projection"} <= decayed
    assert decayed | free == {name for name, _ in module.named_parameters()}


def test_restored_moments_make_the_next_update_equal() -> None:
    def updated(module: nn.Linear, optimiser: torch.optim.Optimizer) -> torch.Tensor:
        optimiser.zero_grad()
        module(torch.ones(1, 3)).square().sum().backward()
        optimiser.step()
        return module.weight.detach().clone()

    torch.manual_seed(0)
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    first, second = (adamw(module, Training(lr=0.1)) for module in (one, other))
    updated(one, first)
    saved = {**moments(first), "steps": torch.tensor(1)}
    assert sorted(saved)[:3] == ["optimiser.0.exp_avg", "optimiser.0.exp_avg_sq", "optimiser.0.step"]
    other.load_state_dict(one.state_dict())
    fresh = nn.Linear(3, 2)
    fresh.load_state_dict(one.state_dict())
    wanted = updated(one, first)
    restore_moments(second, saved)
    assert torch.equal(updated(other, second), wanted)
    assert not torch.equal(updated(fresh, adamw(fresh, Training(lr=0.1))), wanted)
