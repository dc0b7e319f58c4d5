"""Dual encoders: unit vectors of images and captions in one space. Most scorers are built on them.

`curation.models.cost(model)` is the cost of one sample. Pixels are copied to the device as bytes and converted to
floats there. No call waits for the device: a caller who encodes images first has captions tokenised meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from curation.core.errors import UserError, WeightsError
from curation.models.architecture import build_for_inference, build_model, preprocess_for
from curation.models.compiled import COMPILED_LENGTH_STEP, Pass, compiled
from curation.models.device_copies import to_device
from curation.models.plain_clip import PatchEmbedding, PlainClip
from curation.models.tokenizer import Tokenize, tokenizer_for
from curation.models.towers import (
    LENGTH_STEP,
    PixelNormaliser,
    bucket_lengths,
    encode_image,
    encode_text,
    pad_rows,
    trims,
)
from curation.models.weights import Weights, read_tensors
from curation.shards.images import Preprocess

if TYPE_CHECKING:
    from curation.storage.store import StoreOptions

Precision = Literal["fp32", "bf16"]
PRECISIONS = ("fp32", "bf16")
GPU_TEXT_ROWS = 128  # captions of a pass on a GPU: a fixed number, so that a vector has the same bits in any batch
MIN_ROWS = 16  # below 4 rows a matrix product takes another kernel and rounds differently (measured on AVX2)

__all__ = ["DualEncoder", "Precision", "load_dual_encoder", "load_tensors", "preprocess_for"]


class DualEncoder:
    """Encoder of pixels and captions to unit-length float32 vectors `[N, dim]` on its device, for inference only.

    A vector depends on its own image or caption and not on the rest of the batch: bit for bit on CPUs (tested), and on
    GPUs for batches of one size. Scorers share the object (see `shared_encoder.py`).
    """

    def __init__(self, model: str, module: nn.Module, device: torch.device, precision: Precision = "fp32") -> None:
        self.model = model
        self.device = device
        self.precision = precision
        self.preprocess: Preprocess = preprocess_for(model)
        self.module = module.to(device).eval().requires_grad_(False)
        self._tokenize: Tokenize = tokenizer_for(model)
        self._normalise = PixelNormaliser(self.preprocess).to(device)
        self._patches = self._patch_embedding()
        self._passes: tuple[Pass, Pass] = self._image_vectors, self._text_vectors
        self._step = LENGTH_STEP
        # Rows of a pass: None for as many as there are. On a GPU another number of rows may round differently.
        self._image_rows: int | None = None
        self._text_rows = GPU_TEXT_ROWS if device.type == "cuda" else None
        with torch.inference_mode():
            self.dim = int(self._text(self._tokenize([""])).shape[1])

    def compile(self, rows: int) -> None:
        """Compile both passes with `torch.compile`, for batches of `rows` images; other batches are padded and split.

        The shapes are fixed: one for images, and for captions one for each length (5 for a context of 77), of a quarter
        of the rows. Each is compiled when it first occurs, which takes 10 s or more. Values differ by rounding: by 2e-7
        from those without in fp32, by bf16's own rounding in bf16 (both tested). See `compiled.py`.
        """
        image, text = self._image_vectors, self._text_vectors
        self._passes = compiled(image), compiled(text)
        self._step, self._image_rows, self._text_rows = COMPILED_LENGTH_STEP, rows, max(MIN_ROWS, rows // 4)

    @torch.inference_mode()
    def image(self, pixels: np.ndarray | Tensor) -> Tensor:
        """Encode RGB images, uint8 `[N, S, S, 3]` with S = `preprocess.size`, to float32 `[N, dim]`.

        A tensor may be on the device already: see `device_copies`.
        """
        batch = torch.as_tensor(pixels)
        size = self.preprocess.size
        assert batch.dtype == torch.uint8 and batch.shape[1:] == (size, size, 3), (batch.dtype, batch.shape)
        if len(batch) == 0:
            return torch.zeros(0, self.dim, device=self.device)
        return self._in_rows(self._passes[0], batch, self._image_rows)

    @torch.inference_mode()
    def text(self, captions: Sequence[str]) -> Tensor:
        """Encode N captions to float32 `[N, dim]`; a caption beyond the model's context length is truncated.

        Equal captions are tokenised and encoded once, to the same bits: 1.8 times less CPU where 107 of 256 differ, and
        1.7 to 2.5 times where 64 do (proxy-mu, proxy-ti).
        """
        if len(captions) == 0:
            return torch.zeros(0, self.dim, device=self.device)
        places = {caption: place for place, caption in enumerate(dict.fromkeys(captions))}
        vectors = self._distinct(list(places))
        if len(places) == len(captions):
            return vectors
        return vectors[torch.tensor([places[caption] for caption in captions]).to(self.device)]

    def _distinct(self, captions: Sequence[str]) -> Tensor:
        ids = self._tokenize(captions)
        if not trims(self.module):
            return self._text(ids)
        # Captions are encoded by length: the padding of each follows from its own length alone, so that its vector has
        # the same bits in any batch (a matrix product of another length rounds differently).
        lengths = bucket_lengths(ids, self._step)
        out = torch.empty(len(ids), self.dim, device=self.device)
        for length in sorted(set(lengths.tolist())):
            rows = (lengths == length).nonzero().squeeze(1)
            out[rows.to(self.device)] = self._text(ids[rows, :length].contiguous())
        return out

    def _text(self, ids: Tensor) -> Tensor:
        return self._in_rows(self._passes[1], ids, self._text_rows)

    def _in_rows(self, encode: Pass, batch: Tensor, fixed: int | None) -> Tensor:
        """Encode a batch in passes of `fixed` rows, or in one pass of at least `MIN_ROWS` rows."""
        rows = len(batch)
        pieces = [pad_rows(piece, fixed or MIN_ROWS) for piece in torch.split(batch, fixed or rows)]
        try:
            with self._autocast():
                found = [encode(to_device(piece, self.device)) for piece in pieces]
        except torch.OutOfMemoryError:
            self._halve_rows()  # the caller tries half a batch, which would be padded to a whole one
            raise
        return (torch.cat(found) if len(found) > 1 else found[0])[:rows]

    def _halve_rows(self) -> None:
        self._image_rows, self._text_rows = (
            max(MIN_ROWS, rows // 2) if rows else None for rows in (self._image_rows, self._text_rows)
        )

    def _image_vectors(self, batch: Tensor) -> Tensor:
        """Unit vectors `[N, dim]` for uint8 `[N, S, S, 3]` on the device."""
        if self._patches is None:
            features = encode_image(self.module, self._normalise(batch))
        else:
            assert isinstance(self.module, PlainClip)
            features = self.module.visual.pooled(self._patches(batch))
        return normalize(features.float(), dim=-1)

    def _text_vectors(self, ids: Tensor) -> Tensor:
        """Unit vectors `[N, dim]` for token ids `[N, L]` on the device."""
        return normalize(encode_text(self.module, ids).float(), dim=-1)

    def _patch_embedding(self) -> PatchEmbedding | None:
        if self.precision != "fp32" or not isinstance(self.module, PlainClip):
            return None
        conv1, preprocess = self.module.visual.conv1, self.preprocess
        if preprocess.size % conv1.kernel_size[0]:
            return None
        return PatchEmbedding(conv1, preprocess.mean, preprocess.std).to(self.device)

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)


def load_dual_encoder(
    model: str,
    weights: Weights | None,
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
    options: StoreOptions | None = None,
) -> DualEncoder:
    """Load `model` with `weights` onto `device`. `weights=None` means random weights with seed 0, for tests.

    `precision="bf16"` is autocast: matrix products in bfloat16, norms and the result in float32. Raises `UserError` for
    an unknown model or precision, `WeightsError` for weights that can't be read or don't fit the model.
    """
    if precision not in PRECISIONS:
        raise UserError(f"unknown precision {precision!r}", fix=f"one of {', '.join(PRECISIONS)}")
    if weights is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = build_model(model)
    else:
        path = weights.fetch(options)  # first: a wrong sha256 must not cost building a model
        module = build_for_inference(model)
        load_tensors(module, read_tensors(path, weights.url), model, weights.url)
    return DualEncoder(model, module, torch.device(device), precision)


def load_tensors(module: nn.Module, tensors: dict[str, Tensor], model: str, origin: str) -> None:
    """Copy `tensors` into `module`.

    `origin`: the name of the file in an error. Raises `WeightsError` for any difference in names or shapes.
    """
    module.load_state_dict(expect_fit(module, tensors, model, origin))


def expect_fit(module: nn.Module, tensors: dict[str, Tensor], model: str, origin: str) -> dict[str, Tensor]:
    """Rename `tensors` to the module's names and return them.

    No value is read: all tensors may be on torch's meta device. Raises `WeightsError` for a difference in names or
    shapes.
    """
    tensors = _rename_tensors(module, tensors)
    if "logit_bias" in tensors and hasattr(module, "logit_bias") and module.logit_bias is None:
        module.logit_bias = nn.Parameter(torch.zeros(()))  # trained with the sigmoid loss
    expected = module.state_dict()
    missing = sorted(expected.keys() - tensors.keys())
    surplus = sorted(tensors.keys() - expected.keys())
    shapes = [
        f"{name} has shape {list(tensors[name].shape)}, the model expects {list(expected[name].shape)}"
        for name in expected
        if name in tensors and tensors[name].shape != expected[name].shape
    ]
    found = [f"{len(missing)} tensors missing (first: {missing[0]})"] if missing else []
    found += [f"{len(surplus)} tensors unknown (first: {surplus[0]})"] if surplus else []
    found += [f"{len(shapes)} tensors of another shape (first: {shapes[0]})"] if shapes else []
    if found:
        fix = "name the architecture that these weights were trained with"
        raise WeightsError(f"{origin} does not fit model {model!r}: {'; '.join(found)}", fix=fix)
    return tensors


def _rename_tensors(module: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove DistributedDataParallel's prefix, name the text tower of old CLIP files, and reshape 0-d scales."""
    tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    expected = module.state_dict()
    if "text_projection" in tensors and "text_projection" not in expected:
        from open_clip.model import convert_to_custom_text_state_dict

        tensors = convert_to_custom_text_state_dict(tensors)
    for name in ("logit_scale", "logit_bias"):
        if name in tensors and name in expected and tensors[name].numel() == expected[name].numel():
            tensors[name] = tensors[name].reshape(expected[name].shape)
    tensors.pop("text.transformer.embeddings.position_ids", None)  # a constant of older Hugging Face models
    return tensors
