"""What all learners share: settings, the update, averaged weights, and going on to the bit.

A learner is a module with an optimiser and one method, `step`. It is trained as it is evaluated, without dropout,
stochastic depth or dropped patches, so that the same batches make the same weights anywhere. A kind of learner adds its
loss (`_backward`) and what it says of candidates (`outputs`); whoever chooses the batches is not its concern.

In a process group (`distribute`), every process is given the whole batch and encodes its share of it; the losses see
all of it, and DistributedDataParallel averages gradients: the update is that of one process, to rounding.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import interpolate
from torch.nn.parallel import DistributedDataParallel

from curation.core.errors import UserError
from curation.core.ranges import LARGEST_FLOAT, check, check_count, check_seed
from curation.models.architecture import preprocess_for
from curation.models.batches import SuperBatch, TrainingBatch
from curation.models.dual import PixelNormaliser
from curation.models.model_outputs import Outputs, PairwiseLoss

# Samples that are scored at once. On a CPU, what is made of them stays in the cache: 1,280 pictures in parts of 256
# take two thirds of the time that they take as one (`proxy-mu`).
ON_CPU, ON_GPU = 256, 4096
MOST_SIDE = 4096  # pixels of a picture that a model looks at


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
    max_norm: float = 1.0  # of the gradients, to which longer ones are cut; 0: they are as long as they are
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    loss: PairwiseLoss = "softmax"  # of a contrastive learner
    schedule: Literal["cosine", "constant"] = "cosine"
    averaging: float = 0.0  # of the weights: the share of the past that a step keeps, as 0.999; 0: none
    micro_batch: int = 0  # samples that are encoded at once; 0: all of the batch
    compile: bool = False  # through torch.compile: minutes at the start, and other rounding
    scoring_size: int = 0  # side of the pictures when it scores; 0: as in training
    reduced: float = 0.0  # share of each batch that it trains on at `scoring_size`, so that it can score there

    def __post_init__(self) -> None:
        check_count("steps", self.steps, "it is the number of updates", least=1)
        check_count("batch", self.batch, "it is the number of samples of an update", least=1)
        check_count("micro_batch", self.micro_batch, "0 encodes all of the batch at once")
        check("scoring_size", self.scoring_size, "it is a side in pixels, 0 that of training", least=0, most=MOST_SIDE)
        check_seed(self.seed)
        for name, good, what in (
            ("lr", 0 < self.lr <= LARGEST_FLOAT, "above 0 and a number of float32"),
            ("warmup", 0 <= self.warmup <= 1, "a share from 0 to 1"),
            ("weight_decay", 0 <= self.weight_decay <= LARGEST_FLOAT, "at least 0 and a number of float32"),
            ("betas", len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas), "two of 0 to less than 1"),
            ("eps", 0 < self.eps <= LARGEST_FLOAT, "above 0 and a number of float32"),
            ("max_norm", 0 <= self.max_norm <= LARGEST_FLOAT, "at least 0; 0 is no limit"),
            ("averaging", 0 <= self.averaging < 1, "at least 0 and less than 1"),
            ("reduced", 0 <= self.reduced <= 1, "a share from 0 to 1"),
        ):
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)}: it is {what}")
        if self.reduced and not self.scoring_size:
            raise ValueError(f"reduced is {self.reduced}, and there is no scoring_size to reduce pictures to")

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
    text_lengths: Mapping[int, int] = {}  # as `Learner.text_lengths` has them


class TrainingView(NamedTuple):
    """A batch, or a part of one, as it is trained on; `small`, bool `[N]`: which pictures at the scoring size."""

    pixels: Tensor
    targets: Tensor
    small: Tensor


class Forward(nn.Module):
    """A learner's module with its forward pass: what torch compiles, and what DistributedDataParallel wraps."""

    def __init__(self, module: nn.Module, encode: Callable[..., Any]) -> None:
        super().__init__()
        self.module = module
        self._encode = encode

    def forward(self, *inputs: Tensor) -> Any:
        return self._encode(*inputs)


class Learner:
    """A model under training. `steps` counts its updates."""

    def __init__(self, model: str, module: nn.Module, training: Training, device: torch.device | str = "cpu") -> None:
        self.model, self.training, self.device = model, training, torch.device(device)
        if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules()):
            text = f"model {model} normalises by batch: what it says of a sample would depend on the others"
            raise UserError(text, fix="a vision transformer; `curate proxy ls --all` lists every name")
        # Without norms by batch, what `train` mode adds is chance alone (dropout, stochastic depth, dropped patches):
        # a model that goes on, another process and a second pass would draw otherwise, and so would one that scores.
        self.module: nn.Module = module.to(self.device).eval()
        self.steps = 0
        state = self.module.state_dict() if training.averaging else {}
        self._average = {name: tensor.detach().clone() for name, tensor in state.items()}
        self._view = preprocess_for(model)
        self._normaliser = PixelNormaliser(self._view).to(self.device)
        forward = Forward(self.module, self._encode)
        self._forward: Any = torch.compile(forward) if training.compile else forward
        self.rank, self.world = 0, 1
        self._named: tuple[int, str] | None = None  # fingerprint after a number of updates
        self._optimiser = torch.optim.AdamW(
            decay_groups(self.module, training.weight_decay), lr=training.lr, betas=training.betas, eps=training.eps,
            fused=True,
        )  # fmt: skip

    def step(self, batch: TrainingBatch) -> StepReport:
        """One update on one batch; in a process group, all processes are given the same one."""
        rate = self.training.rate(self.steps)
        if len(batch.pixels) % self.world:
            text = f"a batch of {len(batch.pixels)} samples can't be shared by {self.world} learners"
            raise UserError(text, fix="a pool of at least one batch, and another number of learners")
        shown = self._shown(batch)
        if self.world > 1:
            shown = TrainingView(*(part.tensor_split(self.world)[self.rank] for part in shown))
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=False)  # a sparse vocabulary: keep one buffer rather than make it anew
        part = self.training.micro_batch
        parts = 0 < part < len(shown.pixels)
        loss = self._backward_in_parts(shown, part) if parts else self._backward(shown)
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.training.max_norm or math.inf)
        self._optimiser.step()
        self.steps += 1
        self._keep_average()
        loss = loss.detach()
        if self.world > 1:
            distributed.all_reduce(loss)
            loss = loss / self.world
        return StepReport(self.steps, loss, norm.detach(), rate, self.text_lengths(batch.targets, training=True))

    @torch.no_grad()
    def _keep_average(self) -> None:
        now = self.module.state_dict() if self._average else {}
        for name, tensor in self._average.items():
            new = now[name]
            tensor.lerp_(new, 1 - self.training.averaging) if tensor.is_floating_point() else tensor.copy_(new)

    def _shown(self, batch: TrainingBatch) -> TrainingView:
        """Which samples are looked at in the scoring size, spread evenly: so that any part has its share of them."""
        share = self.training.reduced if self.training.scoring_size else 0.0
        places = torch.arange(len(batch.pixels) + 1) * share
        return TrainingView(*batch, places[1:].floor() > places[:-1].floor())

    def distribute(self) -> None:
        """Train as one of the processes of torch's default process group, which hold the same weights. Their number
        has to divide every batch."""
        self.rank, self.world = distributed.get_rank(), distributed.get_world_size()
        if self.world > 1:
            self._forward = DistributedDataParallel(self._forward)

    def _accumulate(self, last: bool) -> AbstractContextManager[object]:
        """Around the forward and backward pass of a part of a batch: gradients are averaged with the last one."""
        return nullcontext() if last or self.world == 1 else self._forward.no_sync()

    def fingerprint(self) -> str:
        """sha256 of the weights as they are now (not their averages). Cost: once an update, 0.7 ms a MB."""
        if self._named is None or self._named[0] != self.steps:
            found = sha256()
            for name, tensor in sorted(self.module.state_dict().items()):
                found.update(name.encode())
                found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
            self._named = self.steps, found.hexdigest()
        return self._named[1]

    def text_lengths(self, targets: Tensor, *, training: bool) -> Counter[int]:
        """How long the captions of a batch (in training) or of candidates are as the text tower computes them, without
        the padding that is trimmed: length in tokens -> captions. Nothing for a learner without captions."""
        return Counter()

    def outputs(self, candidates: SuperBatch) -> Outputs:
        """What the model says of candidates now, for a selector. Changes nothing."""
        raise NotImplementedError

    def _encode(self, pixels: Tensor, targets: Tensor, small: Tensor) -> Any:
        raise NotImplementedError

    def _backward(self, shown: TrainingView) -> Tensor:
        raise NotImplementedError

    def _backward_in_parts(self, shown: TrainingView, size: int) -> Tensor:
        raise NotImplementedError

    def autocast(self) -> AbstractContextManager[object]:
        reduced = self.training.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16) if reduced else nullcontext()

    def on_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)

    def in_parts(self, encode: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """`encode(rows)` for scoring: a super-batch may be of any size, and what is made on the way is not."""
        size = ON_CPU if self.device.type == "cpu" else ON_GPU
        return torch.cat([encode(rows[start : start + size]) for start in range(0, max(len(rows), 1), size)])

    def _normalise(self, pixels: Tensor) -> Tensor:
        """uint8 `[N, S, S, 3]` of any side to float `[N, 3, S', S']` of this model's."""
        found: Tensor = self._normaliser(pixels)
        if found.shape[-1] == self._view.size:
            return found
        return interpolate(found, (self._view.size, self._view.size), mode="bilinear", antialias=True)

    def look(self, pixels: Tensor, small: Tensor, tower: Callable[[Tensor], Tensor]) -> Tensor:
        """The image tower's features in training: of the samples that are `small` at the scoring size."""
        if not self.training.reduced or not small.any():
            return tower(self._normalise(pixels))
        reduced = at_size(self.module, tower, self._normalise(pixels[small]), self.training.scoring_size)
        if small.all():
            return reduced
        whole = tower(self._normalise(pixels[~small]))
        places = torch.cat([small.nonzero(), (~small).nonzero()]).squeeze(1)
        return torch.cat([reduced, whole])[places.argsort().to(whole.device)]

    def glance(self, pixels: Tensor, tower: Callable[[Tensor], Tensor]) -> Tensor:
        """The image tower's features for scoring: all of them at the scoring size."""
        size = self.training.scoring_size
        return at_size(self.module, tower, self._normalise(pixels), size) if size else tower(self._normalise(pixels))

    def state(self) -> dict[str, Tensor]:
        """Copies of all that decides the next steps: weights and their averages, moments, the number of updates."""
        found = {f"model.{name}": tensor for name, tensor in self.tensors(averaged=False).items()}
        found |= {f"average.{name}": tensor.cpu().clone() for name, tensor in self._average.items()}
        for index, moments in self._optimiser.state_dict()["state"].items():
            found |= {f"optimiser.{index}.{name}": value.detach().cpu().clone() for name, value in moments.items()}
        return {**found, "steps": torch.tensor(self.steps)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()` of a learner with the same model and settings: the same bits as if never stopped."""
        self.module.load_state_dict(
            {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}
        )
        self._average = {name: state[f"average.{name}"].to(self.device).clone() for name in self._average}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            if name.startswith("optimiser."):
                _, index, moment = name.split(".", 2)
                moments.setdefault(int(index), {})[moment] = tensor.clone()
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.steps, self._named = int(state["steps"]), None

    def become(self, tensors: Mapping[str, Tensor], steps: int, fingerprint: str) -> None:
        """Take over the published weights of the same model after `steps` updates, to score with: no moments."""
        self.module.load_state_dict(dict(tensors))
        self.steps, self._named = steps, (steps, fingerprint)

    def tensors(self, *, averaged: bool = True) -> dict[str, Tensor]:
        """Copies of the weights, under open_clip's names: the averaged ones where the settings say so."""
        if averaged and self.training.averaging:
            return {name: tensor.cpu().clone() for name, tensor in self._average.items()}
        return {name: tensor.detach().cpu().clone() for name, tensor in self.module.state_dict().items()}


def train(learner: Learner, batches: Iterable[TrainingBatch], on_step: Callable[[StepReport], None]) -> None:
    """Uniform training: as many steps as the settings say, or as there are batches."""
    for batch in islice(batches, learner.training.steps - learner.steps):
        on_step(learner.step(batch))


def at_size(module: nn.Module, tower: Callable[[Tensor], Tensor], pixels: Tensor, size: int) -> Tensor:
    """A vision transformer's features of pictures scaled to `size`: fewer patches, whose positions are interpolated.

    At half the side a quarter of the patches are left, and with them a quarter of the FLOPs. `module.visual` is
    open_clip's tower with learned positions; raises `ValueError` for another, or a size that its patches don't divide.
    Source: Flexi-JEST, 2406.17711, section 2.3; interpolation: FlexiViT, 2212.08013.
    """
    visual: Any = module.visual
    positions = getattr(visual, "positional_embedding", None)
    if not isinstance(positions, nn.Parameter) or positions.ndim != 2:
        raise ValueError("scoring at another size needs a vision transformer with learned positions")
    patch = visual.conv1.kernel_size[0]
    if size % patch:
        raise ValueError(f"a scoring size of {size} is no multiple of the patches' {patch}")
    side, grid = math.isqrt(len(positions) - 1), size // patch
    known = positions[1:].T.reshape(1, -1, side, side)
    fewer = interpolate(known, (grid, grid), mode="bilinear", antialias=True).flatten(2)[0].T
    small = interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    # In its place among the parameters: put back at their end, the norm of the gradients would be added up otherwise.
    visual._parameters["positional_embedding"] = torch.cat([positions[:1], fewer])
    try:
        return tower(small)
    finally:
        visual._parameters["positional_embedding"] = positions


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay for matrices alone: not for norms, biases, position embeddings or the temperature."""
    exempt = ("positional_embedding", "class_embedding", "logit_scale", "logit_bias")
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        (free if parameter.ndim < 2 or name.endswith(exempt) else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
