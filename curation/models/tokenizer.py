"""Captions to token ids. CLIP's byte-pair vocabulary ships with open_clip; others need the Hugging Face hub.

Cost: some 28,000 short captions a second and core, thanks to a cache of words. That cache, and the time a hostile
caption can take, are bounded here: open_clip's tokenizer keeps every word that it has ever seen (gigabytes over a web
corpus), and takes time quadratic in the length of one word (a minute for 100 kB of letters).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from open_clip.tokenizer import SimpleTokenizer

from curation.errors import UserError
from curation.models.architecture import model_config

Tokenize = Callable[[Sequence[str]], torch.Tensor]

MAX_CACHED_WORDS = 1 << 18  # about 60 MB
MAX_WORD_BYTES = 512  # ten times the longest word of any dictionary; a run of ideographs counts as one word
MAX_CHARACTERS_PER_TOKEN = 32  # CLIP's captions have 4-5 characters a token


class BoundedTokenizer(SimpleTokenizer):  # type: ignore[misc]
    """open_clip's tokenizer, with bounded memory and time. The same ids, except within words beyond 512 bytes."""

    cache: dict[str, str]

    def bpe(self, token: str) -> str:
        """Merges of one word; forgets all words when the cache is full, which costs a second a million captions."""
        if len(self.cache) > MAX_CACHED_WORDS:
            self.cache = {word: word for word in ("<start_of_text>", "<end_of_text>")}
        merged: str = super().bpe(token[:MAX_WORD_BYTES])
        return merged

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` without the special ones at both ends."""
        ids: list[int] = super().encode(text[: MAX_CHARACTERS_PER_TOKEN * int(self.context_length or 77)])
        return ids


def tokenizer_for(model: str) -> Tokenize:
    """A function from captions to int64 ids `[N, context_length]`; padding is 0 for CLIP's vocabulary."""
    text = model_config(model)["text_cfg"]
    if "hf_tokenizer_name" not in text:
        tokenizer = BoundedTokenizer(context_length=text.get("context_length", 77), **text.get("tokenizer_kwargs", {}))
        return lambda captions: tokenizer(list(captions))
    import open_clip

    with hub_errors(model, f"the tokenizer {text['hf_tokenizer_name']!r}"):
        foreign = open_clip.get_tokenizer(model)
    return lambda captions: foreign(list(captions))


@contextmanager
def hub_errors(model: str, what: str) -> Iterator[None]:
    """Turns every way in which the Hugging Face hub can fail (not installed, offline, not found) into one line."""
    try:
        yield
    except ImportError as error:
        fix = "pip install transformers"
        raise UserError(f"model {model!r} needs {what}, which needs a package: {error}", fix=fix) from error
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        fix = "load it once on a machine with access and copy its HF_HOME, or use a model with CLIP's own vocabulary"
        raise UserError(f"model {model!r} needs {what} from the Hugging Face hub: {line}", fix=fix) from error
