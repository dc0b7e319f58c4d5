"""A model under training: the update, averaged weights, scoring, and a state from which it resumes bit for bit.

A learner is a module with an optimiser and one method, `step`. It is trained as it is evaluated, without dropout,
stochastic depth or dropped patches, so that the same batches give the same weights on any machine. Each kind of learner
adds its loss (`_backward`), its outputs for a selector (`outputs`) and its figures (`evaluate`).

In a process group (`distribute`), every process receives the whole batch and encodes its share of it; the losses see
all of it, and DistributedDataParallel averages gradients: the update equals that of one process, to rounding.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from hashlib import sha256
from itertools import islice
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from curation.core.errors import UserError
from curation.learners.optimiser import adamw, moments, restore_moments
from curation.learners.picture_sizes import PictureSizes, TrainingView
from curation.learners.training import Training
from curation.models.architecture import model_config
from curation.models.batches import Examples, SuperBatch, TrainingBatch
from curation.models.model_outputs import Outputs

# Samples scored at once. On a CPU the activations of 256 stay in the cache: scoring 1,280 pictures in parts of 256
# takes two thirds of the time that scoring them at once takes (`proxy-mu`).
ON_CPU, ON_GPU = 256, 4096


class StepReport(NamedTuple):
    """The figures of one step. Tensors stay on the device: reading one makes the host wait for it."""

    step: int
    loss: Tensor
    gradient_norm: Tensor
    lr: float
    text_lengths: Mapping[int, int] = {}  # see `Learner.text_lengths`


class Forward(nn.Module):
    """A learner's module with its forward pass: what torch compiles, and what DistributedDataParallel wraps."""

    def __init__(self, module: nn.Module, encode: Callable[..., Any]) -> None:
        super().__init__()
        self.module = module
        self._encode = encode

    def forward(self, *inputs: Tensor) -> Any:
        return self._encode(*inputs)


class Learner:
    """A model under training. `steps` counts its updates.

    model: the name of its architecture. module: its weights, to be moved to `device`.
    Raises `UserError` for a module with batch normalisation.
    """

    #: Whether the model encodes captions, whose FLOPs depend on their length.
    reads_captions: ClassVar[bool] = False

    def __init__(self, model: str, module: nn.Module, training: Training, device: torch.device | str = "cpu") -> None:
        self.model, self.training, self.device = model, training, torch.device(device)
        if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules()):
            text = f"model {model} has batch normalisation: its output for a sample would depend on the others"
            raise UserError(text, fix="name a vision transformer; `curate proxy ls --all` lists every name")
        # Without batch normalisation, `train` mode adds chance alone (dropout, stochastic depth, dropped patches): a
        # resumed model, another process, a second pass and a model that scores would each draw differently.
        self.module: nn.Module = module.to(self.device).eval()
        self.steps = 0
        state = self.module.state_dict() if training.averaging else {}
        self._average = {name: tensor.detach().clone() for name, tensor in state.items()}
        self.sizes = PictureSizes(model, self.module, training, self.device)
        forward = Forward(self.module, self._encode)
        self._forward: Any = torch.compile(forward) if training.compile else forward
        self.rank, self.world = 0, 1
        self._named: tuple[int, str] | None = None  # updates, and the fingerprint of the weights after them

    @cached_property
    def _optimiser(self) -> torch.optim.AdamW:
        """Built on first use: it imports `torch._dynamo` (1.7 CPU seconds), and a model that only scores has none."""
        return adamw(self.module, self.training)

    def step(self, batch: TrainingBatch) -> StepReport:
        """Make one update. In a process group, every process passes the same batch.

        Raises `UserError` for a batch that the processes can't share equally.
        """
        rate = self.training.rate(self.steps)
        if len(batch.pixels) % self.world:
            text = f"a batch of {len(batch.pixels)} samples can't be shared by {self.world} learners"
            raise UserError(text, fix="a pool of at least one batch, and another number of learners")
        shown = self.sizes.mark_reduced(batch)
        if self.world > 1:
            shown = TrainingView(*(part.tensor_split(self.world)[self.rank] for part in shown))
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=False)  # the vocabulary's gradient is sparse: keep one buffer
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

    def distribute(self) -> None:
        """Train as one process of torch's default process group.

        All processes hold the same weights, and their number divides every batch.
        """
        self.rank, self.world = distributed.get_rank(), distributed.get_world_size()
        if self.world > 1:
            self._forward = DistributedDataParallel(self._forward)

    def _accumulate(self, last: bool) -> AbstractContextManager[object]:
        """Return the context of a part's forward and backward pass; processes average gradients with the last part."""
        return nullcontext() if last or self.world == 1 else self._forward.no_sync()

    def fingerprint(self) -> str:
        """Return the sha256 of the current weights, not of their averages. Cost: 0.7 ms a MB, once an update."""
        if self._named is None or self._named[0] != self.steps:
            found = sha256()
            for name, tensor in sorted(self.module.state_dict().items()):
                found.update(name.encode())
                found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
            self._named = self.steps, found.hexdigest()
        return self._named[1]

    def text_lengths(self, targets: Tensor, *, training: bool) -> Counter[int]:
        """Return length in tokens -> number of captions that the text tower computes at it, after padding is trimmed.

        targets: token ids `[N, L]`. training: whether they are a batch, which may be split into parts and shared by
        processes, or candidates that are scored. Empty for a learner without captions.
        """
        return Counter()

    def outputs(self, candidates: SuperBatch) -> Outputs:
        """Return the current model's outputs for B candidates, for a selector. Changes no weight."""
        raise NotImplementedError

    def evaluate(self, held_out: Examples) -> dict[str, Any]:
        """Return figures on held-out samples; runs are compared by `quality`, from 0 to 1.

        The averaged weights are evaluated where the settings average them. Raises `UserError` for too few samples.
        """
        raise NotImplementedError

    def metadata(self) -> dict[str, str]:
        """Return the fields that the header of the weights' file records besides the model's name."""
        return {}

    def head_flops(self) -> float:
        """Return the FLOPs of layers behind the towers, a sample, which `curation.models.cost` does not count."""
        return 0.0

    def pair_flops(self) -> float:
        """Return the FLOPs of comparing one candidate's picture with one caption; 0 for outputs without pairs."""
        return 0.0

    @property
    def width(self) -> int:
        """The dimension of the image tower's vectors."""
        return int(model_config(self.model)["embed_dim"])

    def _encode(self, pixels: Tensor, targets: Tensor, small: Tensor) -> Any:
        raise NotImplementedError

    def _backward(self, shown: TrainingView) -> Tensor:
        raise NotImplementedError

    def _backward_in_parts(self, shown: TrainingView, size: int) -> Tensor:
        raise NotImplementedError

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of a forward pass: bf16 where the settings say so."""
        reduced = self.training.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16) if reduced else nullcontext()

    def on_device(self, tensor: Tensor) -> Tensor:
        """Return the tensor on the learner's device."""
        return tensor.to(self.device, non_blocking=True)

    def in_parts(self, encode: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """Return `encode(rows)`, computed part by part: a super-batch may have any size, its activations may not."""
        size = ON_CPU if self.device.type == "cpu" else ON_GPU
        return torch.cat([encode(rows[start : start + size]) for start in range(0, max(len(rows), 1), size)])

    def state(self) -> dict[str, Tensor]:
        """Return copies of everything that determines the next steps: weights, averages, moments, number of updates."""
        found = {f"model.{name}": tensor for name, tensor in self.tensors(averaged=False).items()}
        found |= {f"average.{name}": tensor.cpu().clone() for name, tensor in self._average.items()}
        return {**found, **moments(self._optimiser), "steps": torch.tensor(self.steps)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from the `state()` of a learner with the same model and settings, as if never stopped."""
        self.module.load_state_dict(
            {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}
        )
        self._average = {name: state[f"average.{name}"].to(self.device).clone() for name in self._average}
        restore_moments(self._optimiser, state)
        self.steps, self._named = int(state["steps"]), None

    def load_published(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Take the published weights of the same model after `steps` updates, to score with. Moments don't change."""
        self.module.load_state_dict(dict(tensors))
        self.steps, self._named = steps, None

    def tensors(self, *, averaged: bool = True) -> dict[str, Tensor]:
        """Return copies of the weights under open_clip's names; the averaged ones where the settings average them."""
        if averaged and self.training.averaging:
            return {name: tensor.cpu().clone() for name, tensor in self._average.items()}
        return {name: tensor.detach().cpu().clone() for name, tensor in self.module.state_dict().items()}


def train(learner: Learner, batches: Iterable[TrainingBatch], on_step: Callable[[StepReport], None]) -> None:
    """Train until the learner has made the steps of its settings, or the batches end; call `on_step` after each."""
    for batch in islice(batches, learner.training.steps - learner.steps):
        on_step(learner.step(batch))
