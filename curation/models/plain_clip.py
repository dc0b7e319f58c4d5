"""The plain CLIP architecture: a vision transformer and a causal text transformer, with open_clip's tensor names.

For our proxies and open_clip's plain ViTs, in training and in scoring. It costs less than open_clip's own classes:

- Importing open_clip takes 4 CPU seconds (torchvision, `torch._dynamo`, CoCa), half of the fixed cost of a small run.
- The last block computes one token of each sequence, the one that is pooled, instead of all of them: 17 % less time for
  an image and 55 % less for a caption with proxy-mu, 1/12 less with a ViT-B.

Vectors equal open_clip's up to rounding (2e-7), and initial weights bit for bit with the same seed (both tested). Other
architectures (ResNets, timm and Hugging Face towers, CoCa, SigLIP) are open_clip's. Unless it initialises, nothing here
draws random values or masks on torch's meta device, where these import sympy (1.1 CPU seconds).

Source: Radford et al. 2021 (2103.00020), section 2.4; vision transformers: 2010.11929, section 3.1.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention


class PlainClip(nn.Module):
    """A CLIP. State dicts of open_clip's class can be loaded into it, and the reverse.

    config: the model's configuration in open_clip's format, for which `architecture.is_plain` holds.
    initialise: draw the weights that open_clip draws with the same state of torch's generator; if not, they are
        uninitialised memory, for a state dict to replace.
    whole: compute all tokens in the last blocks, as open_clip does, to count the architecture's nominal FLOPs.
    """

    attn_mask: Tensor

    def __init__(self, config: Mapping[str, Any], *, initialise: bool = False, whole: bool = False) -> None:
        super().__init__()
        text, dim = config["text_cfg"], config["embed_dim"]
        activation = QuickGelu if config.get("quick_gelu") else nn.GELU
        width, length = text.get("width", 512), text.get("context_length", 77)
        self.text_pool_type = "argmax"  # the end token has the highest id
        self.visual = VisionTransformer(config["vision_cfg"], dim, activation, initialise, whole)
        # Drawn before the blocks and registered after them: open_clip's order of draws, and of parameters.
        rows = text.get("vocab_size", 49408)
        words = nn.Embedding(rows, width, _weight=None if initialise else torch.empty(rows, width))
        self.transformer = Transformer(
            width, text.get("layers", 12), text.get("heads", 8), text.get("mlp_ratio", 4.0), activation, whole
        )
        self.token_embedding = words
        self.positional_embedding = nn.Parameter(torch.empty(length, width))
        self.ln_final = LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, dim))
        causal = torch.full((length, length), -torch.inf, device="cpu").triu_(1)
        self.register_buffer("attn_mask", causal, persistent=False)
        self.logit_scale = nn.Parameter(torch.empty(()))
        bias = nn.Parameter(torch.empty(())) if config.get("init_logit_bias") is not None else None
        self.register_parameter("logit_bias", bias)
        if initialise:
            self._initialise_text(config)

    @torch.no_grad()
    def _initialise_text(self, config: Mapping[str, Any]) -> None:
        """Draw the weights of the text tower as CLIP does; see 2103.00020, section 2.5, and open_clip's code."""
        width, layers = self.positional_embedding.shape[1], len(self.transformer.resblocks)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        narrow, wide, residual = width**-0.5, (2 * width) ** -0.5, width**-0.5 * (2 * layers) ** -0.5
        for block in self.transformer.resblocks:
            weights = dict(block.named_parameters())
            nn.init.normal_(weights["attn.in_proj_weight"], std=narrow)
            nn.init.normal_(weights["attn.out_proj.weight"], std=residual)
            nn.init.normal_(weights["mlp.c_fc.weight"], std=wide)
            nn.init.normal_(weights["mlp.c_proj.weight"], std=residual)
        nn.init.normal_(self.text_projection, std=narrow)
        nn.init.constant_(self.logit_scale, config.get("init_logit_scale", math.log(1 / 0.07)))
        if isinstance(self.logit_bias, Tensor):
            nn.init.constant_(self.logit_bias, config["init_logit_bias"])

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Encode normalised images, float32 `[N, 3, S, S]`, to `[N, dim]`."""
        return self.visual(pixels)  # type: ignore[no-any-return]

    def encode_text(self, ids: Tensor) -> Tensor:
        """Encode token ids, int64 `[N, L]` with L up to the context length, to `[N, dim]`."""
        length, end = ids.shape[1], ids.argmax(dim=-1)
        hidden = self.token_embedding(ids) + self.positional_embedding[:length]
        seen = torch.arange(length, device=ids.device) <= end[:, None]  # causal: padding follows the end token
        pooled = self.transformer.at(hidden, end, self.attn_mask[:length, :length], seen)
        return self.ln_final(pooled) @ self.text_projection  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """A ViT with a class token and learned positions."""

    def __init__(
        self, config: Mapping[str, Any], dim: int, activation: type[nn.Module], initialise: bool, whole: bool
    ) -> None:
        super().__init__()
        width, patch = config.get("width", 768), config.get("patch_size", 16)
        grid = config.get("image_size", 224) // patch
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter(width**-0.5 * torch.randn(shape) if initialise else torch.empty(shape))

        self.class_embedding = drawn(width)
        self.positional_embedding = drawn(grid * grid + 1, width)
        self.ln_pre = LayerNorm(width)
        heads = width // config.get("head_width", 64)
        self.transformer = Transformer(
            width, config.get("layers", 12), heads, config.get("mlp_ratio", 4.0), activation, whole
        )
        self.ln_post = LayerNorm(width)
        self.proj = drawn(width, dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode normalised images, float32 `[N, 3, S, S]`, to `[N, dim]`."""
        return self.pooled(self.conv1(pixels).flatten(2).transpose(1, 2))

    def pooled(self, patches: Tensor) -> Tensor:
        """Encode embedded patches, [N, grid * grid, width], to [N, dim]."""
        first = self.class_embedding.expand(len(patches), 1, -1)
        tokens = torch.cat([first.to(patches.dtype), patches], dim=1) + self.positional_embedding.to(patches.dtype)
        pooled = self.transformer.at(self.ln_pre(tokens), 0)
        return self.ln_post(pooled) @ self.proj  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Residual blocks of attention and MLP, with layer norms before both."""

    def __init__(
        self, width: int, layers: int, heads: int, mlp_ratio: float, activation: type[nn.Module], whole: bool
    ) -> None:
        super().__init__()
        self.whole = whole
        self.resblocks = nn.ModuleList(Block(width, heads, mlp_ratio, activation) for _ in range(layers))

    def at(
        self, hidden: Tensor, place: Tensor | int, mask: Tensor | None = None, seen: Tensor | None = None
    ) -> Tensor:  # fmt: skip
        """Return the output for one token of each sequence, [N, width].

        hidden: [N, L, width]. place: the token's position, one for all or int64 [N]. mask: added to the logits of
        attention, [L, L]. seen: the positions that the token attends to, bool [N, L]; None for all.
        """
        *blocks, last = self.resblocks
        for block in blocks:
            hidden = block(hidden, mask)
        if self.whole:
            return last(hidden, mask)[torch.arange(len(hidden), device=hidden.device), place]  # type: ignore[no-any-return]
        assert isinstance(last, Block)
        return last.at(hidden, place, seen)


class Block(nn.Module):
    """One residual block."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, activation: type[nn.Module]) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = LayerNorm(width)
        inner = int(width * mlp_ratio)
        layers = {"c_fc": nn.Linear(width, inner), "gelu": activation(), "c_proj": nn.Linear(inner, width)}
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, hidden: Tensor, attn_mask: Tensor | None) -> Tensor:
        """[N, L, width] -> [N, L, width]."""
        normed = self.ln_1(hidden)
        mask = attn_mask.to(hidden.dtype) if attn_mask is not None else None
        hidden = hidden + self.attn(normed, normed, normed, need_weights=False, attn_mask=mask)[0]
        return hidden + self.mlp(self.ln_2(hidden))  # type: ignore[no-any-return]

    def at(self, hidden: Tensor, place: Tensor | int, seen: Tensor | None) -> Tensor:
        """Return the output for one token of each sequence, as `Transformer.at`: one query, all keys and values."""
        attn, rows = self.attn, torch.arange(len(hidden), device=hidden.device)
        normed, hidden = self.ln_1(hidden), hidden[rows, place]
        width, (n, length, _) = attn.embed_dim, normed.shape
        query = linear(normed[rows, place], attn.in_proj_weight[:width], attn.in_proj_bias[:width])
        both = linear(normed, attn.in_proj_weight[width:], attn.in_proj_bias[width:])
        key, value = both.view(n, length, 2, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
        mask = seen[:, None, None] if seen is not None else None
        mixed = scaled_dot_product_attention(query.view(n, attn.num_heads, 1, -1), key, value, attn_mask=mask)
        hidden = hidden + attn.out_proj(mixed.reshape(n, width))
        return hidden + self.mlp(self.ln_2(hidden))  # type: ignore[no-any-return]


class PatchEmbedding(nn.Module):
    """The first layer on bytes: (pixels / 255 - mean) / std and the convolution as one matrix product.

    Takes half the time of the two in sequence (proxy-mu: 0.02 ms less of 0.10), and rounds differently by up to 1e-5 of
    values around 1. In float32 alone: in bfloat16 the product's two parts would lose what their difference keeps.
    conv1: the convolution of a `VisionTransformer`. mean, std: of the preprocessing, per channel.
    """

    def __init__(self, conv1: nn.Conv2d, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.side = conv1.kernel_size[0]
        weight = conv1.weight.detach().double()  # [width, 3, side, side]
        std_, mean_ = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (std, mean))
        scale, shift = 1 / (255 * std_), -mean_ / std_
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", (weight * scale).permute(0, 2, 3, 1).flatten(1).float().contiguous())
        self.register_buffer("bias", (weight * shift).sum((1, 2, 3)).float())

    def forward(self, pixels: Tensor) -> Tensor:
        """RGB, uint8 [N, S, S, 3] with S a multiple of the patch's side -> [N, grid * grid, width]."""
        n, size, side = len(pixels), pixels.shape[1], self.side
        grid = size // side
        patches = pixels.view(n, grid, side, grid, side, 3).transpose(2, 3).reshape(n, grid * grid, side * side * 3)
        return linear(patches.float(), self.weight, self.bias)


class LayerNorm(nn.LayerNorm):
    """Layer norm whose result has the dtype of its input, also under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(x.dtype)


class QuickGelu(nn.Module):
    """x * sigmoid(1.702 x): OpenAI's activation."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)
