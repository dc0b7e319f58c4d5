"""Dual encoders: unit vectors of images and captions in one space. Most scorers are built on them.

`curation.models.cost(model)` is the cost of one sample. Pixels are copied to the device as bytes and converted to
floats there. No call waits for the device: a caller who encodes images first has captions tokenised meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from curation.core.errors import UserError, WeightsError
from curation.models.architecture import build_for_inference, build_model, preprocess_for
from curation.models.plain_clip import PatchEmbedding, PlainClip
from curation.models.tokenizer import Tokenize, tokenizer_for
from curation.models.weights import Weights, read_tensors
from curation.shards.images import Preprocess

if TYPE_CHECKING:
    from curation.storage.store import StoreOptions

Precision = Literal["fp32", "bf16"]
PRECISIONS = ("fp32", "bf16")
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
        with torch.inference_mode():
            self.dim = int(self._text(self._tokenize([""])).shape[1])

    @torch.inference_mode()
    def image(self, pixels: np.ndarray | Tensor) -> Tensor:
        """Encode RGB images, uint8 `[N, S, S, 3]` with S = `preprocess.size`, to float32 `[N, dim]`."""
        batch = torch.as_tensor(pixels)
        size = self.preprocess.size
        assert batch.dtype == torch.uint8 and batch.shape[1:] == (size, size, 3), (batch.dtype, batch.shape)
        rows = len(batch)
        if rows == 0:
            return torch.zeros(0, self.dim, device=self.device)
        batch = pad_rows(batch, MIN_ROWS)
        if self.device.type == "cuda" and not batch.is_cuda:
            batch = batch.pin_memory()  # a copy from pageable memory would make the host wait
        batch = batch.to(self.device, non_blocking=True)
        with self._autocast():
            return normalize(self._features(batch).float(), dim=-1)[:rows]

    def _features(self, batch: Tensor) -> Tensor:
        """Output of the image tower before normalisation, `[N, dim]`, for uint8 `[N, S, S, 3]` on the device."""
        if self._patches is None:
            return encode_image(self.module, self._normalise(batch))
        assert isinstance(self.module, PlainClip)
        return self.module.visual.pooled(self._patches(batch))

    def _patch_embedding(self) -> PatchEmbedding | None:
        if self.precision != "fp32" or not isinstance(self.module, PlainClip):
            return None
        conv1, preprocess = self.module.visual.conv1, self.preprocess
        if preprocess.size % conv1.kernel_size[0]:
            return None
        return PatchEmbedding(conv1, preprocess.mean, preprocess.std).to(self.device)

    @torch.inference_mode()
    def text(self, captions: Sequence[str]) -> Tensor:
        """Encode N captions to float32 `[N, dim]`; a caption beyond the model's context length is truncated."""
        if len(captions) == 0:
            return torch.zeros(0, self.dim, device=self.device)
        ids = self._tokenize(captions)
        if not trims(self.module):
            return self._text(ids)
        # Captions are encoded by length: the padding of each follows from its own length alone, so that its vector has
        # the same bits in any batch (a matrix product of another length rounds differently).
        lengths = bucket_lengths(ids)
        out = torch.empty(len(ids), self.dim, device=self.device)
        for length in sorted(set(lengths.tolist())):
            rows = (lengths == length).nonzero().squeeze(1)
            out[rows.to(self.device)] = self._text(ids[rows, :length].contiguous())
        return out

    def _text(self, ids: Tensor) -> Tensor:
        rows = len(ids)
        ids = pad_rows(ids, MIN_ROWS)
        if self.device.type == "cuda":
            ids = ids.pin_memory()
        with self._autocast():
            return normalize(encode_text(self.module, ids.to(self.device, non_blocking=True)).float(), dim=-1)[:rows]

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)


class PixelNormaliser(nn.Module):
    """Conversion of uint8 `[N, S, S, 3]` to normalised float32 `[N, 3, S, S]`, one multiply-add on its device."""

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, pixels: Tensor) -> Tensor:
        """(pixels / 255 - mean) / std."""
        n, height, width, _ = pixels.shape
        rows = pixels.reshape(n * height, width * 3).float()  # long rows suit a CPU's vector instructions
        normalised = torch.addcmul(self.shift.repeat(width), rows, self.scale.repeat(width))
        return normalised.view(n, height, width, 3).permute(0, 3, 1, 2)


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


def encode_image(module: nn.Module, pixels: Tensor) -> Tensor:
    """Output of the image tower before normalisation, float32 `[N, dim]`, for pixels float32 `[N, 3, S, S]`."""
    features: Tensor = module.encode_image(pixels)  # type: ignore[operator]
    return features


def encode_text(module: nn.Module, ids: Tensor) -> Tensor:
    """Output of the text tower before normalisation, float32 `[N, dim]`, for ids int64 `[N, L]`, trimmed or not."""
    if isinstance(module, PlainClip) or not trims(module):
        features: Tensor = module.encode_text(ids)  # type: ignore[operator]
        return features
    clip: Any = module
    length = ids.shape[1]
    hidden = clip.token_embedding(ids) + clip.positional_embedding[:length]
    hidden = clip.ln_final(clip.transformer(hidden, attn_mask=clip.attn_mask[:length, :length]))
    pooled: Tensor = hidden[torch.arange(len(ids), device=ids.device), ids.argmax(dim=-1)] @ clip.text_projection
    return pooled


def pad_rows(batch: Tensor, rows: int) -> Tensor:
    """Pad `batch` with copies of its first row to at least `rows` rows."""
    missing = rows - len(batch)
    return torch.cat([batch, batch[:1].expand(missing, *batch.shape[1:])]) if missing > 0 else batch


def bucket_lengths(ids: Tensor) -> Tensor:
    """Tokens of each row up to and including its end token, rounded up to a multiple of 8: int64 `[N]`."""
    return ((ids.argmax(dim=-1) + 8) // 8 * 8).clamp(max=ids.shape[1])


def trim(module: nn.Module, ids: Tensor) -> Tensor:
    """Drop the columns in which every caption is padding, in steps of 4 (few shapes for a compiler or a GPU).

    In a causal tower that reads its output at the end token, padding has no influence. With captions of ten tokens in a
    context of 32, the text pass is three times as fast.
    """
    if not trims(module):
        return ids
    return ids[:, : trimmed_length(module, ids)]


def trimmed_length(module: nn.Module, ids: Tensor) -> int:
    """Number of columns of `ids` that `trim` keeps: the tokens that the text tower computes for each caption."""
    if not trims(module):
        return ids.shape[1]
    longest = int(ids.argmax(dim=-1).max()) + 1
    return min(ids.shape[1], -(-longest // 4) * 4)


def trims(module: nn.Module) -> bool:
    """Whether `module` has open_clip's plain CLIP text tower.

    `encode_text` runs the parts of that tower itself; its captions can be trimmed because it is causal.
    """
    pooled_at_end = getattr(module, "text_pool_type", None) == "argmax"
    return (
        pooled_at_end
        and getattr(module, "attn_mask", None) is not None
        and isinstance(getattr(module, "text_projection", None), nn.Parameter)
    )


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
