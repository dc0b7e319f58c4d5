"""Gradients of single samples, a few numbers a layer, and the Fisher information of samples.

Where a model's loss on one sample pulls its weights is the common ground of tracing a failure to training data, of
grouping failures into types, and of erasing what was learned. A gradient has as many numbers as the model; a *sketch*
of it has at most `numbers` a layer, and sketches keep inner products in expectation.

- Losses are separate: the loss of a sample depends on that sample alone. A pair of picture and caption is compared with
  a fixed batch of other pairs (`PairLosses`), whose vectors are constants.
- Per-sample gradients: `torch.func` over a chunk of samples, about four times the cost of a training step on them.
- Sketch of a layer: each coordinate is added, with a random sign, to one of `numbers` sums (count sketch): it costs one
  addition a coordinate and no matrix. Source: Charikar, Chen, Farach-Colton (2002); projections to 100 numbers a layer,
  of weights without biases: 2109.12347, section 4.1.
- Fisher information of n samples with gradients g_i: F = (1/n) sum_i g_i g_i^T. The damped system (F + c I) x = q is
  solved in its dual, an n x n system, where there are more weights than samples: exact, whatever their number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, logsigmoid, normalize

from curation.core.errors import UserError
from curation.models.model_outputs import PairwiseLoss
from curation.models.towers import encode_image, encode_text, pad_rows

NUMBERS = 100  # of a layer's sketch; 2109.12347, section 4.1
MOST_ROWS = 4096  # of a Fisher system: at most 128 MB of float64 for its factor, and 6 seconds of one core
CHUNK = 32  # samples whose whole gradients are in memory at once; more are not faster on a CPU
SKIPPED = ("token_embedding.weight",)  # 3 million numbers a sample, all 0 but for the caption's words

#: A module, its inputs [N, ...] and targets [N, ...] to the loss of each sample, float [N].
Losses = Callable[[nn.Module, Tensor, Tensor], Tensor]


def class_losses(module: nn.Module, pixels: Tensor, classes: Tensor) -> Tensor:
    """Return a classifier's cross-entropies, `[N]`.

    pixels: normalised, `[N, 3, S, S]`. classes: int64 `[N]`, or distributions, float `[N, K]`.
    """
    return cross_entropy(module(pixels).float(), classes, reduction="none")


@dataclass(frozen=True)
class PairLosses:
    """A dual encoder's loss of each pair among a fixed batch of M other pairs, whose vectors do not move.

    image, text: unit vectors of the other pairs, float `[M, D]`. Softmax: the mean of both directions of
    -log softmax_j(t x_i . y_j) at the pair's own (2103.00020, figure 3). Sigmoid: the pair's own term, and the mean of
    both directions' terms with the others (2303.15343, algorithm 1).
    """

    image: Tensor
    text: Tensor
    loss: PairwiseLoss = "softmax"

    @classmethod
    def of(cls, module: nn.Module, image: Tensor, text: Tensor) -> PairLosses:
        """Return the loss that a dual encoder was trained with: sigmoid where it has a `logit_bias`."""
        return cls(image, text, "softmax" if getattr(module, "logit_bias", None) is None else "sigmoid")

    def __call__(self, module: nn.Module, pixels: Tensor, ids: Tensor) -> Tensor:
        """Return the losses `[N]`. pixels: normalised, `[N, 3, S, S]`. ids: tokens of captions, `[N, L]`."""
        image = normalize(encode_image(module, pixels).float(), dim=-1)
        text = normalize(encode_text(module, ids).float(), dim=-1)
        return self.of_logits(*self.logits(module, image, text))

    def logits(self, module: nn.Module, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a pair's own logit `[N, 1]`, and those with the others' captions and pictures, `[N, M]` each.

        image, text: unit vectors of the pairs, `[N, D]`, of the type of the others' vectors.
        """
        parts: Any = module
        bias = parts.logit_bias if self.loss == "sigmoid" else 0.0
        scale = parts.logit_scale.exp()
        own = scale * (image * text).sum(-1, keepdim=True) + bias
        return own, scale * image @ self.text.T + bias, scale * text @ self.image.T + bias

    def of_logits(self, own: Tensor, captions: Tensor, pictures: Tensor) -> Tensor:
        """Return the losses `[N]` of logits."""
        if self.loss == "sigmoid":
            return -logsigmoid(own)[:, 0] - (logsigmoid(-captions).sum(1) + logsigmoid(-pictures).sum(1)) / 2
        rows, columns = (torch.cat([own, other], 1).logsumexp(1) for other in (captions, pictures))
        return (rows + columns) / 2 - own[:, 0]


class _WithLosses(nn.Module):
    """A module whose forward pass returns the loss of each sample."""

    def __init__(self, module: nn.Module, losses: Losses) -> None:
        super().__init__()
        self.module = module
        self._losses = losses

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return self._losses(self.module, inputs, targets)


@dataclass(frozen=True)
class Layer:
    """One tensor of weights: its columns in a sketch, and where its coordinates go (None: they stay as they are)."""

    columns: slice
    buckets: Tensor | None
    signs: Tensor | None

    def sketch(self, gradients: Tensor) -> Tensor:
        """Return the sketch `[N, numbers]` of whole gradients `[N, ...]`."""
        flat = gradients.reshape(len(gradients), -1).float()
        if self.buckets is None or self.signs is None:
            return flat
        sums = flat.new_zeros(len(flat), self.columns.stop - self.columns.start)
        return sums.index_add_(1, self.buckets, flat * self.signs)


class GradientSketch:
    """Sketches of the gradients of separate losses, at the module's weights when the sketch is made.

    losses: of `module`, such as `class_losses`. numbers: of a layer's sketch, at most. seed: of the sketch; sketches
    are compared only if modules, numbers and seeds are equal. Biases, norms and a vocabulary's embedding are left out.
    Raises `UserError` for a model in which the loss of a sample depends on statistics of the batch.
    """

    def __init__(self, module: nn.Module, losses: Losses, *, numbers: int = NUMBERS, seed: int = 0) -> None:
        expect_separate(module)
        self._model = _WithLosses(module, losses)
        self._weights = {
            name: tensor.detach()
            for name, tensor in self._model.named_parameters()
            if tensor.ndim >= 2 and tensor.is_floating_point() and not name.endswith(SKIPPED)
        }
        generator, self.layers, start = torch.Generator().manual_seed(seed), dict[str, Layer](), 0
        for name, tensor in self._weights.items():
            size, buckets, signs = tensor.numel(), None, None
            if size > numbers:
                buckets = torch.randint(0, numbers, (size,), generator=generator).to(tensor.device)
                signs = (torch.randint(0, 2, (size,), generator=generator) * 2.0 - 1).to(tensor.device)
            self.layers[name.removeprefix("module.")] = Layer(slice(start, start + min(size, numbers)), buckets, signs)
            start += min(size, numbers)
        self.width = start
        self._gradients = vmap(grad(self._loss_of_one), (None, 0, 0))

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sketches of N samples, float32 `[N, width]`, on the device of the weights."""
        parts = [torch.zeros(0, self.width, device=inputs.device)]
        # The fused attention has no rule for per-sample gradients, and would run sample by sample.
        with sdpa_kernel(SDPBackend.MATH):
            for some, wanted in zip(torch.split(inputs, CHUNK), torch.split(targets, CHUNK), strict=True):
                if rows := len(some):  # full chunks only: another number of rows would round differently
                    found = self._gradients(self._weights, pad_rows(some, CHUNK), pad_rows(wanted, CHUNK))
                    parts.append(self._sketch(found)[:rows])
        return torch.cat(parts)

    def _loss_of_one(self, weights: Mapping[str, Tensor], inputs: Tensor, target: Tensor) -> Tensor:
        found: Tensor = functional_call(self._model, dict(weights), (inputs[None], target[None]))
        return found[0]

    def _sketch(self, gradients: Mapping[str, Tensor]) -> Tensor:
        parts = [self.layers[name.removeprefix("module.")].sketch(found) for name, found in gradients.items()]
        return torch.cat(parts, 1).detach()


class FisherSystem:
    """The damped Fisher information of n samples, F + c I, as a linear system.

    rows: the samples' gradients (or sketches of them), float `[n, d]`, at most `MOST_ROWS`. damping: c as a share of
    the trace of F, which is the mean squared norm of the rows; smaller values trust small eigenvalues more.

    (F + c I)^-1 q = n (G^T G + n c I)^-1 q = (q - G^T (n c I + G G^T)^-1 G q) / c, where G has the rows (Woodbury): one
    Cholesky factor in float64, of d x d or n x n, whichever is smaller. Memory: 8 n d and 8 min(n, d)^2 bytes. Raises
    `UserError` where all gradients are 0.
    """

    def __init__(self, rows: Tensor, damping: float = 1e-2) -> None:
        if not 0 < len(rows) <= MOST_ROWS:
            raise ValueError(f"a Fisher system takes 1 to {MOST_ROWS} samples, not {len(rows)}")
        own = rows.double()
        self.damping = damping * float(own.square().sum()) / len(own)
        if self.damping <= 0:
            raise UserError(
                "all gradients are 0: no loss pulls these weights", fix="an earlier checkpoint of the model"
            )
        self._count, self._rows = len(own), own if len(own) < own.shape[1] else None  # None: solved in the primal
        products = own.T @ own if self._rows is None else own @ own.T
        products.diagonal().add_(len(own) * self.damping)
        self._factor = torch.linalg.cholesky(products)

    def solve(self, ways: Tensor) -> Tensor:
        """Return (F + c I)^-1 of one vector `[d]`, or of each column of `[d, m]`; float64."""
        given = ways.double()
        columns = given[:, None] if given.ndim == 1 else given
        if self._rows is None:
            return (self._count * torch.cholesky_solve(columns, self._factor)).reshape(given.shape)
        inner = torch.cholesky_solve(self._rows @ columns, self._factor)
        return ((columns - self._rows.T @ inner) / self.damping).reshape(given.shape)


def diagonal_fisher(parts: Sequence[Tensor]) -> Tensor:
    """Return the diagonal of the Fisher information of all rows of some matrices `[n_k, d]`: mean squares, `[d]`."""
    rows = sum(len(part) for part in parts)
    return torch.stack([part.square().sum(0) for part in parts]).sum(0) / max(1, rows)


def expect_separate(module: nn.Module) -> None:
    """Raise `UserError` for a module in which the loss of a sample depends on the others: batch normalisation."""
    for name, part in module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and (part.training or not part.track_running_stats):
            text = f"layer {name} normalises by the batch: a single sample has no gradient of its own"
            raise UserError(text, fix="put the model in evaluation mode, or use a model with layer normalisation")
