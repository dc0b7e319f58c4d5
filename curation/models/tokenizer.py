"""Captions to token ids. CLIP's byte-pair vocabulary ships with open_clip; others need the Hugging Face hub.

Cost: some 28,000 short captions a second and core, thanks to a cache of words. That cache, and the time a hostile
caption can take, are bounded here: open_clip's tokenizer keeps every word that it has ever seen (gigabytes over a web
corpus), and takes time quadratic in the length of one word (a minute for 100 kB of letters).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
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

    def __init__(self, *, clean: str = "lower", **options: Any) -> None:
        super().__init__(clean=clean, **options)
        self.ids: dict[str, list[int]] = {}  # of words seen; all forgotten when full, which costs a second a million
        self._lower = clean == "lower"

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` without the special ones at both ends."""
        text = text[: MAX_CHARACTERS_PER_TOKEN * int(self.context_length or 77)]
        if self._lower and text.isascii() and text.isprintable() and "&" not in text:
            text = " ".join(text.split()).lower()  # what cleaning leaves to do, as nothing here is to be repaired
        else:
            text = self.clean_fn(text)
        found: list[int] = []
        for word in self.pat.findall(text):
            ids = self.ids.get(word)
            if ids is None:
                if len(self.ids) > MAX_CACHED_WORDS:
                    self.ids.clear()
                ids = self.ids[word] = self._merge(word)
            found += ids
        return found

    def _merge(self, word: str) -> list[int]:
        symbols = "".join(self.byte_encoder[byte] for byte in word.encode())[:MAX_WORD_BYTES]
        ids = [self.encoder[piece] for piece in self.bpe(symbols).split(" ")]
        if symbols not in self.all_special_tokens:
            self.cache.pop(symbols, None)  # the parent's own memory of words, which nothing bounds
        return ids

    @cached_property
    def all_special_tokens(self) -> frozenset[str]:
        return frozenset(self.decoder[token] for token in self.all_special_ids)

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> torch.Tensor:
        """int64 ids `[N, context_length]`, cut and zero-padded."""
        if isinstance(texts, str) or self.reduction_fn is not None:
            reduced: torch.Tensor = super().__call__(texts, context_length)
            return reduced
        length = context_length or self.context_length
        rows = np.zeros((len(texts), length), np.int64)
        for row, text in zip(rows, texts, strict=True):
            ids = [self.sot_token_id, *self.encode(text)[: length - 2], self.eot_token_id]
            row[: len(ids)] = ids
        return torch.from_numpy(rows)


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
