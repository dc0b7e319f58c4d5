"""Small network over an image's embedding, such as a predictor of aesthetics."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from curation.models import Weights
from curation.scorers.encoder import Encoder

if TYPE_CHECKING:
    import torch

    from curation.scorers.scorer import Batch, Score
    from curation.storage.store import StoreOptions

    Layer = tuple[torch.Tensor, torch.Tensor | None]  # weight [out, in], bias [out]


@dataclass(frozen=True, kw_only=True)
class Layers:
    """A safetensors file of linear layers with an `activation` between two layers.

    Tensors are `<name>.weight` [out, in] and `<name>.bias` [out]; the numbers in the names give the layers' order.
    """

    weights: str
    sha256: str
    activation: Literal["none", "relu", "gelu"] = "none"


@dataclass(frozen=True, kw_only=True)
class Head(Encoder):
    """Output of one or more linear layers over the image's unit embedding: one number.

    Cost: one image pass, shared with every scorer that names the same encoder, and 2 FLOPs for each weight of the head.
    Example: head: {model: proxy-ti, weights: s3://models/ti.safetensors, sha256: 9f2c...,
      head: {weights: s3://models/head.safetensors, sha256: 9f2c..., activation: relu}}
    """

    head: Layers

    def identity(self) -> Mapping[str, Any]:
        about = {"weights": self.head.sha256, "activation": self.head.activation}
        return {"kind": "head", "code": 1, "head": about, **self.encoder()}

    def files(self) -> Sequence[Weights]:
        return (*super().files(), Weights(self.head.weights, self.head.sha256))

    def check(self, options: StoreOptions | None = None) -> None:
        from curation.models.weight_shapes import header_of

        file = Weights(self.head.weights, self.head.sha256)
        _layers_of(header_of(file, options).shapes, self.width(options), file.url)

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        from torch.nn import functional

        passes = self.open(device, options)
        layers = _read(Weights(self.head.weights, self.head.sha256), passes.encoder.dim, device, options)
        activations: dict[str, Any] = {"none": lambda x: x, "relu": functional.relu, "gelu": functional.gelu}
        between = activations[self.head.activation]

        def score(batch: Batch) -> torch.Tensor:
            hidden = passes.image(batch).double()  # float32 rounds differently in batches of another size
            for number, (weight, bias) in enumerate(layers):
                hidden = functional.linear(between(hidden) if number else hidden, weight, bias)
            return hidden.squeeze(1).float()

        return score


@dataclass(frozen=True, kw_only=True)
class Aesthetic(Head):
    """Score of a head trained on people's ratings of images, such as LAION's: five linear layers over ViT-L-14.

    `curate proxy convert` converts LAION's published file to safetensors.
    Cost: one image pass, shared. Source: LAION-5B (2210.08402), section 3.
    Example: aesthetic: {model: ViT-L-14, weights: s3://models/l14.safetensors, sha256: 9f2c...,
      head: {weights: s3://models/aesthetic.safetensors, sha256: 9f2c...}}
    """

    def identity(self) -> Mapping[str, Any]:
        return {**super().identity(), "kind": "aesthetic"}


def _read(file: Weights, width: int, device: torch.device, options: StoreOptions | None) -> list[Layer]:
    """Read the layers in order. Raises `WeightsError` unless they map `width` numbers to one."""
    from curation.models.weights import read_tensors

    tensors = {name: tensor.double().to(device) for name, tensor in read_tensors(file.fetch(options)).items()}
    names = _layers_of({name: tuple(tensor.shape) for name, tensor in tensors.items()}, width, file.url)
    return [(tensors[name], tensors.get(name.removesuffix("weight") + "bias")) for name in names]


def _layers_of(shapes: Mapping[str, tuple[int, ...]], width: int, origin: str) -> list[str]:
    """Names of the layers' weights, in order. Raises `WeightsError` unless the layers map `width` numbers to one."""
    from curation.core.errors import WeightsError

    names = sorted((name for name in shapes if name.endswith("weight")), key=_numbers_in)
    widths = [width, *(shapes[name][0] for name in names if shapes[name])]
    fits = [len(shapes[name]) == 2 and shapes[name][1] == wide for name, wide in zip(names, widths, strict=False)]
    if not names or not all(fits) or widths[-1] != 1:
        listed = ", ".join(f"{name} {list(shapes[name])}" for name in names) or "none"
        text = f"{origin} has no linear layers from {width} numbers to one; its weights: {listed}"
        raise WeightsError(text, fix="name the encoder that the head was trained on")
    return names


def _numbers_in(name: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", name)]
