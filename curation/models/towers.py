"""Parts of a dual encoder: pixels to floats, the two towers, and the padding and trimming of their inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from curation.models.plain_clip import PlainClip
from curation.shards.images import Preprocess

LENGTH_STEP = 8  # tokens by which the lengths of encoded captions differ


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


def bucket_lengths(ids: Tensor, step: int = LENGTH_STEP) -> Tensor:
    """Tokens of each row up to and including its end token, rounded up to a multiple of `step`: int64 `[N]`."""
    return ((ids.argmax(dim=-1) + step) // step * step).clamp(max=ids.shape[1])


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
