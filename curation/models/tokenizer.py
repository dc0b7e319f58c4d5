"""Captions to token ids. CLIP's byte-pair vocabulary ships with open_clip; others need the Hugging Face hub.

Cost: some 28,000 short captions a second and core, thanks to a cache of words (`bounded_tokenizer`). open_clip and
torch are imported with the first tokenizer, not with this module: processes that only hand on captions need neither.
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
    """A function from captions to int64 ids `[N, context_length]`; padding is 0 for CLIP's vocabulary. One a process:
    building the vocabulary takes 0.2 s."""
    text = model_config(model)["text_cfg"]
    if "hf_tokenizer_name" not in text:
        from curation.models.bounded_tokenizer import BoundedTokenizer

        tokenizer = BoundedTokenizer(context_length=text.get("context_length", 77), **text.get("tokenizer_kwargs", {}))
        return lambda captions: tokenizer(list(captions))
    import open_clip

    with hub_errors(model, f"the tokenizer {text['hf_tokenizer_name']!r}"):
        foreign = open_clip.get_tokenizer(model)
    return lambda captions: foreign(list(captions))
