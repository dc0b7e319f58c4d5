"""CLIP: images and captions of a pair towards each other, all others of the batch away.

When to use: the learner and the proxies of image-text curation. Losses, with unit vectors x_i, y_j of n pairs, the
learned temperature t and bias c:
- softmax (CLIP): the mean over i of -log softmax_j(t x_i . y_j) at j = i, averaged over both directions.
  Source: 2103.00020, section 2.3 and figure 3; schedule and clipped temperature from its 2.5.
- sigmoid (SigLIP): the sum over i, j of -log sigmoid(z_ij (t x_i . y_j + c)) / n, z_ij = 1 where i = j, else -1.
  Better in small batches, and its terms are those of joint selection. Source: 2303.15343, algorithm 1.

A batch that does not fit into memory is encoded in parts (`micro_batch`): once without gradients, to know the loss's
gradient of every vector, and once more part by part (GradCache, 2101.06983). Same update, a third more compute.

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
from torch.nn.functional import cross_entropy, logsigmoid, normalize

from curation.examples import PairBatch
from curation.models.architecture import build_model, preprocess_for
from curation.models.dual import DualEncoder, PixelNormaliser, encode_image, encode_text, load_tensors, trim
from curation.outputs import Pairs, PairwiseLoss
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
    loss: PairwiseLoss = "softmax"
    schedule: Literal["cosine", "constant"] = "cosine"
    averaging: float = 0.0  # of the weights: the share of the past that a step keeps, as 0.999; 0: none
    micro_batch: int = 0  # pairs that are encoded at once; 0: all of the batch

    def rate(self, step: int) -> float:
        """Learning rate of `step` (from 0): linear warm-up, then half a cosine down to zero, or no change."""
        warmup = max(1, round(self.warmup * self.steps))
        if step < warmup:
            return self.lr * (step + 1) / warmup
        if self.schedule == "constant":
            return self.lr
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
        if training.loss == "sigmoid":
            begin_sigmoid(module)
        self.module: nn.Module = module.to(self.device).train()
        self.steps = 0
        self._average = self.tensors(averaged=False) if training.averaging else {}
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
        self._optimiser.zero_grad(set_to_none=False)  # a sparse vocabulary: keep one buffer rather than make it anew
        part = self.training.micro_batch
        loss = self._backward_in_parts(batch, part) if 0 < part < len(batch.ids) else self._backward(batch)
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.training.max_norm)
        self._optimiser.step()
        self.steps += 1
        for name, tensor in self._average.items():
            now = self.module.state_dict()[name].detach().cpu()
            tensor.lerp_(now, 1 - self.training.averaging) if tensor.is_floating_point() else tensor.copy_(now)
        return StepReport(self.steps, loss.detach(), norm.detach(), rate)

    def _backward(self, batch: PairBatch) -> Tensor:
        loss = self._loss(*self.encode(batch))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    def _backward_in_parts(self, batch: PairBatch, size: int) -> Tensor:
        parts = [PairBatch(*columns) for columns in zip(*(torch.split(column, size) for column in batch), strict=True)]
        with torch.no_grad():
            vectors = [torch.cat(columns) for columns in zip(*map(self.encode, parts), strict=True)]
        image, text = (vector.requires_grad_() for vector in vectors)
        loss = self._loss(image, text)
        loss.backward()  # type: ignore[no-untyped-call]
        assert image.grad is not None and text.grad is not None
        for part, *gradients in zip(parts, torch.split(image.grad, size), torch.split(text.grad, size), strict=True):
            torch.autograd.backward(self.encode(part), gradients)
        return loss

    def _loss(self, image: Tensor, text: Tensor) -> Tensor:
        if self.training.loss == "sigmoid":
            return sigmoid_loss(image, text, self._temperature(), self.module.logit_bias)  # type: ignore[arg-type]
        return contrastive_loss(image, text, self._temperature())

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
        bias = getattr(self.module, "logit_bias", None)
        image, text = self.encode(candidates.batch)
        return Pairs(image, text, float(self._temperature()), 0.0 if bias is None else float(bias))

    def state(self) -> dict[str, Tensor]:
        """Copies of all that decides the next steps: weights and their averages, moments, the number of updates."""
        found = {f"model.{name}": tensor for name, tensor in self.tensors(averaged=False).items()}
        found |= {f"average.{name}": tensor.clone() for name, tensor in self._average.items()}
        for index, moments in self._optimiser.state_dict()["state"].items():
            found |= {f"optimiser.{index}.{name}": value.detach().cpu().clone() for name, value in moments.items()}
        return {**found, "steps": torch.tensor(self.steps)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()` of a learner with the same model and settings: the same bits as if never stopped."""
        self.module.load_state_dict(
            {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}
        )
        self._average = {name: state[f"average.{name}"].clone() for name in self._average}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            if name.startswith("optimiser."):
                _, index, moment = name.split(".", 2)
                moments.setdefault(int(index), {})[moment] = tensor.clone()
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.steps = int(state["steps"])

    def tensors(self, *, averaged: bool = True) -> dict[str, Tensor]:
        """Copies of the weights, under open_clip's names: the averaged ones where the settings say so."""
        if averaged and self.training.averaging:
            return {name: tensor.clone() for name, tensor in self._average.items()}
        return {name: tensor.detach().cpu().clone() for name, tensor in self.module.state_dict().items()}

    def encoder(self) -> DualEncoder:
        """A frozen copy of the model as it is now (its averaged weights), for evaluation."""
        module = build_model(self.model)
        load_tensors(module, self.tensors(), self.model, "the learner")
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


def sigmoid_loss(image: Tensor, text: Tensor, temperature: Tensor, bias: Tensor) -> Tensor:
    """SigLIP's loss of one batch of unit vectors, row by row a pair."""
    logits = temperature * image @ text.T + bias
    wanted = 2 * torch.eye(len(logits), device=logits.device) - 1
    return -logsigmoid(wanted * logits).sum() / len(logits)


def begin_sigmoid(module: nn.Module) -> None:
    """Temperature and bias as SigLIP begins: almost all are mismatches, and are taken for such. Source: section 3.2."""
    with torch.no_grad():
        module.logit_scale.fill_(math.log(10))  # type: ignore[operator]
    module.logit_bias = nn.Parameter(torch.tensor(-10.0))


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay for matrices alone: not for norms, biases, position embeddings or the temperature."""
    exempt = ("positional_embedding", "class_embedding", "logit_scale", "logit_bias")
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        (free if parameter.ndim < 2 or name.endswith(exempt) else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
