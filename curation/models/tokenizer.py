"""Tokenizers: captions to token ids. open_clip includes CLIP's vocabulary; others need the Hugging Face hub.

Cost: about 100,000 short captions a second and core, due to a cache of words (`bounded_tokenizer`). torch, and for
others' vocabularies open_clip, is imported with the first tokenizer: processes that only pass captions on need neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from curation.models.architecture import hub_errors, model_config

if TYPE_CHECKING:
    import torch

Tokenize = Callable[[Sequence[str]], "torch.Tensor"]


@lru_cache(maxsize=8)
def tokenizer_for(model: str) -> Tokenize:
    """Return the tokenizer of `model`: N captions -> int64 ids `[N, context_length]`, padded (with 0 for CLIP).

    Each process builds a vocabulary once, in 0.2 s. Raises `UnknownNameError` for an unknown model, `UserError` when
    its vocabulary is not available from the Hugging Face hub.
    """
    text = model_config(model)["text_cfg"]
    if "hf_tokenizer_name" not in text and not text.get("tokenizer_kwargs"):
        from curation.models.bounded_tokenizer import BoundedTokenizer

        return BoundedTokenizer(text.get("context_length", 77))
    import open_clip

    with hub_errors(model, f"the tokenizer {text.get('hf_tokenizer_name', model)!r}"):
        foreign = open_clip.get_tokenizer(model)
    return lambda captions: foreign(list(captions))
