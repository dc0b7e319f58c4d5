"""Checks, from the headers of weight files, that the weights fit the model or scorer that a recipe names.

They run before anything is scored. A safetensors file begins with the names and shapes of its tensors, so no tensor is
read: 1 ms a file. The architecture is built without memory on torch's meta device: 0.2 s for a ViT-B, once for all
scorers that name it. Files are fetched into this machine's cache first, where scoring needs them anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from curation.core.errors import WeightsError
from curation.models.architecture import build_for_inference, model_config
from curation.models.weights import Weights, read_header

if TYPE_CHECKING:
    from curation.storage.store import StoreOptions


class TensorHeader(NamedTuple):
    """Names and shapes of a file's tensors, and the file's metadata."""

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]


def header_of(file: Weights, options: StoreOptions | None) -> TensorHeader:
    """Fetch a safetensors file and return its header. Raises `WeightsError` for a file of another format."""
    return TensorHeader(*read_header(file.fetch(options), file.url))


def expect_encoder(model: str, file: Weights, options: StoreOptions | None) -> int:
    """Width of a dual encoder's vectors. Raises `WeightsError` unless the file has exactly the tensors of `model`."""
    _expect_encoder(model, file.fetch(options), file.url)
    return int(model_config(model)["embed_dim"])


@lru_cache(maxsize=64)  # several scorers name the same encoder
def _expect_encoder(model: str, path: Path, origin: str) -> None:
    import torch

    from curation.models.dual import expect_fit

    shapes, _ = read_header(path, origin)
    with torch.device("meta"):
        module = build_for_inference(model)
        tensors = {name: torch.empty(shape) for name, shape in shapes.items()}
    expect_fit(module, tensors, model, origin)


def expect_width(file: Weights, names: Sequence[str], width: int, options: StoreOptions | None) -> None:
    """Raise `WeightsError` unless each tensor in `names` has shape [R, width]; other tensors are left to the reader."""
    shapes, _ = header_of(file, options)
    for name in names:
        shape = shapes.get(name)
        if shape is None or len(shape) != 2 or shape[1] != width:
            found = f"has shape {list(shape)}" if shape else "is missing"
            text = f"{file.url} does not fit: tensor `{name}` {found}, the encoder's vectors have {width} numbers"
            raise WeightsError(text, fix="create the file with the encoder that the scorer names")
