"""CLIP's byte-pair tokenizer with bounded memory and time. Imports open_clip, which costs seconds: import it where
needed.

open_clip's own keeps every word that it has ever seen (gigabytes over a web corpus), and takes time quadratic in the
length of one word (a minute for 100 kB of letters).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer

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
