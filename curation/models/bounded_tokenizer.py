"""CLIP's byte-pair tokenizer with bounded memory and time.

open_clip's tokenizer caches every word that it has seen (gigabytes over a web corpus) and takes time quadratic in the
length of a word (a minute for 100 kB of letters). This module imports open_clip, which takes seconds: import it inside
the function that needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer

MAX_CACHED_WORDS = 1 << 18  # about 60 MB
MAX_WORD_BYTES = 512  # ten times the longest dictionary word; a run of ideographs counts as one word
MAX_CHARACTERS_PER_TOKEN = 32  # captions have 4-5 characters a token; the rest of a longer text is not tokenised


class BoundedTokenizer(SimpleTokenizer):  # type: ignore[misc]
    """open_clip's tokenizer with bounded memory and time. Its ids are equal except in words of more than 512 bytes."""

    def __init__(self, *, clean: str = "lower", **options: Any) -> None:
        super().__init__(clean=clean, **options)
        self.ids: dict[str, list[int]] = {}  # word -> ids; cleared when full, which costs 1 s a million words
        self._lower = clean == "lower"

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without the start and end tokens."""
        text = text[: MAX_CHARACTERS_PER_TOKEN * int(self.context_length or 77)]
        if self._lower and text.isascii() and text.isprintable() and "&" not in text:
            text = " ".join(text.split()).lower()  # equals `clean_fn` for such text, which needs no repair
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
            self.cache.pop(symbols, None)  # the parent class's cache of words is unbounded
        return ids

    @cached_property
    def all_special_tokens(self) -> frozenset[str]:
        return frozenset(self.decoder[token] for token in self.all_special_ids)

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> torch.Tensor:
        """Tokenise N texts to int64 ids `[N, context_length]`, truncated and zero-padded."""
        if isinstance(texts, str) or self.reduction_fn is not None:
            reduced: torch.Tensor = super().__call__(texts, context_length)
            return reduced
        length = context_length or self.context_length
        rows = np.zeros((len(texts), length), np.int64)
        for row, text in zip(rows, texts, strict=True):
            ids = [self.sot_token_id, *self.encode(text)[: length - 2], self.eot_token_id]
            row[: len(ids)] = ids
        return torch.from_numpy(rows)
