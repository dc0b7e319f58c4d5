"""CLIP: images and captions of a pair towards each other, all others of the batch away.

When to use: the learner and the proxies of image-text curation. Loss: with unit vectors x_i, y_j and the learned
temperature t, the mean over i of -log softmax_j(t x_i . y_j) at j = i, averaged over both directions.
Source: Radford et al. 2021 (arXiv 2103.00020), section 2.3 and figure 3; schedule and clipped temperature from its 2.5.

Cost of a step: three forward passes' FLOPs (`curation.models.cost`) for each pair, and AdamW over the vocabulary's
embedding, which holds four fifths of a proxy's parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from curation.examples import PairBatch
from curation.models.architecture import build_model, preprocess_for
from curation.models.dual import DualEncoder, PixelNormaliser, encode_image, encode_text, trim
from curation.outputs import Pairs
from curation.pool import SuperBatch

MAX_TEMPERATURE = 100.0


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a learner is trained. The same settings, data, machine and number of threads give the same weights."""

    steps: int = 400
    batch: int = 128
    lr: float = 2e-3
    warmup: float = 0.1  # share of the steps
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    max_norm: float = 1.0
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"

    def rate(self, step: int) -> float:
        """Learning rate of `step` (from 0): linear warm-up, then half a cosine down to zero."""
        warmup = max(1, round(self.warmup * self.steps))
        if step < warmup:
            return self.lr * (step + 1) / warmup
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.steps - warmup)))


class StepReport(NamedTuple):
    """What a step tells. Tensors stay on the device: reading one makes the host wait for it."""

    step: int
    loss: Tensor
    gradient_norm: Tensor
    lr: float


class ClipLearner:
    """A dual encoder under training. `step` is all there is: whoever chooses batches is not its concern."""

    def __init__(self, model: str, training: Training, device: torch.device | str = "cpu") -> None:
        self.model, self.training, self.device = model, training, torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            module = build_model(model)
        self.module: nn.Module = module.to(self.device).train()
        self.steps = 0
        self._normalise = PixelNormaliser(preprocess_for(model)).to(self.device)
        self._optimiser = torch.optim.AdamW(
            decay_groups(self.module, training.weight_decay), lr=training.lr, betas=training.betas, eps=training.eps,
            fused=True,
        )  # fmt: skip

    def step(self, batch: PairBatch) -> StepReport:
        """One update on one batch."""
        rate = self.training.rate(self.steps)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        loss = contrastive_loss(*self.encode(batch), self._temperature())
        self._optimiser.zero_grad(set_to_none=False)  # a sparse vocabulary: keep one buffer rather than make it anew
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.training.max_norm)
        self._optimiser.step()
        self.steps += 1
        return StepReport(self.steps, loss.detach(), norm.detach(), rate)

    def encode(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """Unit vectors of images and captions, float32 `[N, D]` each, with gradients."""
        pixels = batch.pixels.to(self.device, non_blocking=True)
        ids = trim(self.module, batch.ids).to(self.device, non_blocking=True)
        reduced = self.training.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16) if reduced else nullcontext():
            image = encode_image(self.module, self._normalise(pixels))
            text = encode_text(self.module, ids)
        return normalize(image.float(), dim=-1), normalize(text.float(), dim=-1)

    @torch.no_grad()
    def outputs(self, candidates: SuperBatch) -> Pairs:
        """What the model says of candidates now, for a selector. Changes nothing."""
        return Pairs(*self.encode(candidates.batch), temperature=float(self._temperature()))

    def state(self) -> dict[str, Tensor]:
        """Copies of all that decides the next steps: weights, the optimiser's moments, the number of updates."""
        found = {f"model.{name}": tensor for name, tensor in self.tensors().items()}
        for index, moments in self._optimiser.state_dict()["state"].items():
            found |= {f"optimiser.{index}.{name}": value.detach().cpu().clone() for name, value in moments.items()}
        return {**found, "steps": torch.tensor(self.steps)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()` of a learner with the same model and settings: the same bits as if never stopped."""
        self.module.load_state_dict(
            {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}
        )
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            if name.startswith("optimiser."):
                _, index, moment = name.split(".", 2)
                moments.setdefault(int(index), {})[moment] = tensor.clone()
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.steps = int(state["steps"])

    def tensors(self) -> dict[str, Tensor]:
        """Copies of the weights, under open_clip's names."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.module.state_dict().items()}

    def encoder(self) -> DualEncoder:
        """A frozen copy of the model as it is now, for evaluation."""
        module = build_model(self.model)
        module.load_state_dict(self.tensors())
        return DualEncoder(self.model, module, self.device, self.training.precision)

    def _temperature(self) -> Tensor:
        scale: Tensor = self.module.logit_scale  # type: ignore[assignment]
        return scale.exp().clamp(max=MAX_TEMPERATURE)


def train(learner: ClipLearner, batches: Iterable[PairBatch], on_step: Callable[[StepReport], None]) -> None:
    """Uniform training: as many steps as the settings say, or as there are batches. A selector replaces `batches`."""
    for batch in islice(batches, learner.training.steps - learner.steps):
        on_step(learner.step(batch))


def contrastive_loss(image: Tensor, text: Tensor, temperature: Tensor) -> Tensor:
    """The symmetric InfoNCE of one batch of unit vectors, row by row a pair."""
    logits = temperature * image @ text.T
    target = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay for matrices alone: not for norms, biases, position embeddings or the temperature."""
    exempt = ("positional_embedding", "class_embedding", "logit_scale", "logit_bias")
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        (free if parameter.ndim < 2 or name.endswith(exempt) else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
