"""Dual encoders: images and captions to unit vectors of one space. The workhorse of every scorer.

Cost of one sample is `curation.models.cost(model)`. Pixels travel to the device as bytes and become floats there;
nothing here waits for the device, so that a caller who asks for images first has captions tokenised meanwhile.
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
from curation.models.architecture import build_model, preprocess_for
from curation.models.tokenizer import Tokenize, tokenizer_for
from curation.models.weights import Weights, fetch_weights, read_tensors
from curation.shards.images import Preprocess

if TYPE_CHECKING:
    from curation.storage.store import StoreOptions

Precision = Literal["fp32", "bf16"]
PRECISIONS = ("fp32", "bf16")
MIN_ROWS = 16  # below 4 rows a matrix product takes another kernel, and rounds differently (measured on AVX2)

__all__ = ["DualEncoder", "Precision", "load_dual_encoder", "load_tensors", "preprocess_for"]


class DualEncoder:
    """Pixels and captions to unit-length float32 vectors `[N, dim]` on the device. An inference-only, shared object.

    A vector depends on its own image or caption alone, not on what else is in the batch: on CPUs to the bit (tested),
    on GPUs to the bit for batches of one size.
    """

    def __init__(self, model: str, module: nn.Module, device: torch.device, precision: Precision = "fp32") -> None:
        self.model = model
        self.device = device
        self.precision = precision
        self.preprocess: Preprocess = preprocess_for(model)
        self.module = module.to(device).eval().requires_grad_(False)
        self._tokenize: Tokenize = tokenizer_for(model)
        self._normalise = PixelNormaliser(self.preprocess).to(device)
        with torch.inference_mode():
            self.dim = int(self._text(self._tokenize([""])).shape[1])

    @torch.inference_mode()
    def image(self, pixels: np.ndarray | Tensor) -> Tensor:
        """Vectors of RGB images, uint8 `[N, S, S, 3]` with S = `preprocess.size`."""
        batch = torch.as_tensor(pixels)
        size = self.preprocess.size
        assert batch.dtype == torch.uint8 and batch.shape[1:] == (size, size, 3), (batch.dtype, batch.shape)
        rows = len(batch)
        if rows == 0:
            return torch.zeros(0, self.dim, device=self.device)
        batch = at_least(batch, MIN_ROWS)
        if self.device.type == "cuda" and not batch.is_cuda:
            batch = batch.pin_memory()  # a copy from pageable memory would make the host wait
        batch = batch.to(self.device, non_blocking=True)
        with self._autocast():
            return normalize(encode_image(self.module, self._normalise(batch)).float(), dim=-1)[:rows]

    @torch.inference_mode()
    def text(self, captions: Sequence[str]) -> Tensor:
        """Vectors of captions, of any length; beyond the model's context length they are cut."""
        if len(captions) == 0:
            return torch.zeros(0, self.dim, device=self.device)
        ids = self._tokenize(captions)
        if not trims(self.module):
            return self._text(ids)
        # Captions of like length go together: each is as long as it needs to be itself, whatever else is in the batch,
        # so that its vector is the same bits in any batch (a shorter matrix product rounds differently).
        lengths = bucket_lengths(ids)
        out = torch.empty(len(ids), self.dim, device=self.device)
        for length in sorted(set(lengths.tolist())):
            rows = (lengths == length).nonzero().squeeze(1)
            out[rows.to(self.device)] = self._text(ids[rows, :length].contiguous())
        return out

    def _text(self, ids: Tensor) -> Tensor:
        rows = len(ids)
        ids = at_least(ids, MIN_ROWS)
        if self.device.type == "cuda":
            ids = ids.pin_memory()
        with self._autocast():
            return normalize(encode_text(self.module, ids.to(self.device, non_blocking=True)).float(), dim=-1)[:rows]

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)


class PixelNormaliser(nn.Module):
    """uint8 `[N, S, S, 3]` to normalised float32 `[N, 3, S, S]`, in one multiply-add on whatever device it is on."""

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
        rows = pixels.reshape(n * height, width * 3).float()  # long rows: a CPU's vectors want them
        normalised = torch.addcmul(self.shift.repeat(width), rows, self.scale.repeat(width))
        return normalised.view(n, height, width, 3).permute(0, 3, 1, 2)


def load_dual_encoder(
    model: str,
    weights: Weights | None,
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
    options: StoreOptions | None = None,
) -> DualEncoder:
    """`model` with `weights` (None: random ones, seed 0, for tests and benches) ready on `device`.

    `precision="bf16"` is autocast: matrix products in bfloat16, norms and the result in float32.
    """
    if precision not in PRECISIONS:
        raise UserError(f"unknown precision {precision!r}", fix=f"one of {', '.join(PRECISIONS)}")
    if weights is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = build_model(model)
    else:
        path = fetch_weights(weights, options)  # first, because a wrong sha256 should not cost building a model
        module = build_model(model)
        load_tensors(module, read_tensors(path, weights.url), model, weights.url)
    return DualEncoder(model, module, torch.device(device), precision)


def load_tensors(module: nn.Module, tensors: dict[str, Tensor], model: str, origin: str) -> None:
    """Copies `tensors` into `module`; any difference in names or shapes is one line that says what differs."""
    module.load_state_dict(expect_fit(module, tensors, model, origin))


def expect_fit(module: nn.Module, tensors: dict[str, Tensor], model: str, origin: str) -> dict[str, Tensor]:
    """The tensors under the module's names. Raises `WeightsError` for any difference in names or shapes.

    No value is looked at: all may be on torch's meta device.
    """
    tensors = _as_this_model_says(module, tensors)
    if "logit_bias" in tensors and hasattr(module, "logit_bias") and module.logit_bias is None:
        module.logit_bias = nn.Parameter(torch.zeros(()))  # trained with the sigmoid loss
    expected = module.state_dict()
    missing = sorted(expected.keys() - tensors.keys())
    surplus = sorted(tensors.keys() - expected.keys())
    shapes = [
        f"{name} is {list(tensors[name].shape)}, the model's is {list(expected[name].shape)}"
        for name in expected
        if name in tensors and tensors[name].shape != expected[name].shape
    ]
    found = [f"{len(missing)} tensors missing (first: {missing[0]})"] if missing else []
    found += [f"{len(surplus)} unknown (first: {surplus[0]})"] if surplus else []
    found += [f"{len(shapes)} of another shape (first: {shapes[0]})"] if shapes else []
    if found:
        fix = "name the architecture that these weights were trained with"
        raise WeightsError(f"{origin} does not fit model {model!r}: {'; '.join(found)}", fix=fix)
    return tensors


def encode_image(module: nn.Module, pixels: Tensor) -> Tensor:
    """The image tower's output, before normalisation."""
    features: Tensor = module.encode_image(pixels)  # type: ignore[operator]
    return features


def encode_text(module: nn.Module, ids: Tensor) -> Tensor:
    """The text tower's output, before normalisation, for ids that may have been trimmed by `trim`."""
    if not trims(module):
        features: Tensor = module.encode_text(ids)  # type: ignore[operator]
        return features
    clip: Any = module
    length = ids.shape[1]
    hidden = clip.token_embedding(ids) + clip.positional_embedding[:length]
    hidden = clip.ln_final(clip.transformer(hidden, attn_mask=clip.attn_mask[:length, :length]))
    pooled: Tensor = hidden[torch.arange(len(ids), device=ids.device), ids.argmax(dim=-1)] @ clip.text_projection
    return pooled


def at_least(batch: Tensor, rows: int) -> Tensor:
    """`batch`, filled up with copies of its first row if it has fewer than `rows`."""
    missing = rows - len(batch)
    return torch.cat([batch, batch[:1].expand(missing, *batch.shape[1:])]) if missing > 0 else batch


def bucket_lengths(ids: Tensor) -> Tensor:
    """`[N]` tokens each row needs up to and with its end token, rounded up to a multiple of 8."""
    return ((ids.argmax(dim=-1) + 8) // 8 * 8).clamp(max=ids.shape[1])


def trim(module: nn.Module, ids: Tensor) -> Tensor:
    """Drops the columns in which every caption is padding, in steps of 4 (few shapes for a compiler or a GPU).

    In a causal tower that reads its output at the end token, padding can't matter. Captions of ten tokens in a
    context of 32 make the text pass three times as fast.
    """
    if not trims(module):
        return ids
    return ids[:, : trimmed_length(module, ids)]


def trimmed_length(module: nn.Module, ids: Tensor) -> int:
    """How many columns `trim` leaves of these ids: what the text tower computes for each of them."""
    if not trims(module):
        return ids.shape[1]
    longest = int(ids.argmax(dim=-1).max()) + 1
    return min(ids.shape[1], -(-longest // 4) * 4)


def trims(module: nn.Module) -> bool:
    """Whether this is open_clip's plain CLIP text tower, whose pieces `encode_text` puts together itself, and whose
    captions can be trimmed, for it is causal."""
    pooled_at_end = getattr(module, "text_pool_type", None) == "argmax"
    return (
        pooled_at_end
        and getattr(module, "attn_mask", None) is not None
        and isinstance(getattr(module, "text_projection", None), nn.Parameter)
    )


def _as_this_model_says(module: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Plain renames only: DistributedDataParallel's prefix, CLIP saved before its text tower had a name, 0-d scales."""
    from open_clip.model import convert_to_custom_text_state_dict

    tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    expected = module.state_dict()
    if "text_projection" in tensors and "text_projection" not in expected:
        tensors = convert_to_custom_text_state_dict(tensors)
    for name in ("logit_scale", "logit_bias"):
        if name in tensors and name in expected and tensors[name].numel() == expected[name].numel():
            tensors[name] = tensors[name].reshape(expected[name].shape)
    tensors.pop("text.transformer.embeddings.position_ids", None)  # a constant of older Hugging Face models
    return tensors
