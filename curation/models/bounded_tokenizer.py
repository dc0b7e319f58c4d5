"""CLIP's byte-pair tokenizer with bounded memory and time, without importing open_clip.

open_clip's tokenizer caches every word that it has seen (gigabytes over a web corpus) and takes time quadratic in the
length of a word (a minute for 100 kB of letters), and importing it costs 3 CPU seconds. Its ids are kept: a property
test compares them. The vocabulary is the file in open_clip's package.

Cost: 0.1 s to load; then 8 us a caption of ten words that were met before, 200 us for a word that was not.
Source of the algorithm: Sennrich et al. 2016 (1508.07909), section 3.2, on bytes as in GPT-2.
"""

from __future__ import annotations

import gzip
import html
import re
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

MAX_CACHED_WORDS = 1 << 18  # about 60 MB
MAX_WORD_BYTES = 512  # ten times the longest dictionary word; a run of ideographs counts as one word
MAX_CHARACTERS_PER_TOKEN = 32  # captions have 4-5 characters a token; the rest of a longer text is not tokenised
START, END = "<start_of_text>", "<end_of_text>"
MERGES = 48_894  # of the file's lines: with 512 byte symbols and 2 special tokens, 49,408 ids

_SPECIAL = rf"{START}|{END}|'s|'t|'re|'ve|'m|'ll|'d"
_ASCII_WORDS = re.compile(rf"{_SPECIAL}|[a-z]+|[0-9]|[^\sa-z0-9]+")  # equals `_words` for lower-case ASCII


class Vocabulary(NamedTuple):
    """Byte-pair vocabulary: the id of each symbol, the rank of each merge, and a character for each byte."""

    ids: dict[str, int]
    ranks: dict[tuple[str, str], int]
    characters: list[str]


class BoundedTokenizer:
    """CLIP's tokenizer. Its ids equal those of open_clip's except in words of more than 512 bytes.

    context_length: ids of a caption, including the start and end tokens.
    """

    def __init__(self, context_length: int = 77) -> None:
        self.context_length = context_length
        self.vocabulary = vocabulary()
        self.start, self.end = self.vocabulary.ids[START], self.vocabulary.ids[END]
        self._special = {START: [self.start], END: [self.end]}
        self.ids: dict[str, list[int]] = dict(self._special)  # word -> ids; cleared when full

    def __call__(self, captions: Sequence[str]) -> torch.Tensor:
        """Tokenise N captions to int64 ids `[N, context_length]`, truncated and zero-padded."""
        rows = np.zeros((len(captions), self.context_length), np.int64)
        for row, caption in zip(rows, captions, strict=True):
            ids = [self.start, *self.encode(caption)[: self.context_length - 2], self.end]
            row[: len(ids)] = ids
        return torch.from_numpy(rows)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without the start and end tokens."""
        text = text[: MAX_CHARACTERS_PER_TOKEN * self.context_length]
        if text.isascii() and text.isprintable() and "&" not in text:  # then `cleaned` repairs nothing
            words = _ASCII_WORDS.findall(text.lower())
        else:
            words = _words(cleaned(text))
        found: list[int] = []
        for word in words:
            ids = self.ids.get(word)
            found += self._learn(word) if ids is None else ids
        return found

    def _learn(self, word: str) -> list[int]:
        if len(self.ids) > MAX_CACHED_WORDS:
            self.ids = dict(self._special)
        symbols = "".join(map(self.vocabulary.characters.__getitem__, word.encode()[:MAX_WORD_BYTES]))
        ids = self.ids[word] = [self.vocabulary.ids[piece] for piece in self.bpe(symbols)]
        return ids

    def bpe(self, symbols: str) -> list[str]:
        """Merge the symbols of one word, the pair of lowest rank first. Quadratic in their number."""
        ranks, word = self.vocabulary.ranks, [*symbols[:-1], symbols[-1] + "</w>"]
        unknown = len(ranks)
        while len(word) > 1:
            rank, first, second = min((ranks.get(pair, unknown), *pair) for pair in pairwise(word))
            if rank == unknown:
                break
            merged: list[str] = []
            for symbol in word:
                if merged and symbol == second and merged[-1] == first:
                    merged[-1] = first + second
                else:
                    merged.append(symbol)
            word = merged
        return word


def cleaned(text: str) -> str:
    """Repair mojibake and HTML entities, collapse white space, and convert to lower case, as open_clip does."""
    import ftfy

    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()


def _words(text: str) -> list[str]:
    import regex

    found: list[str] = regex.findall(_SPECIAL + r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", text, regex.IGNORECASE)
    return found


@cache
def vocabulary() -> Vocabulary:
    """Load CLIP's vocabulary from open_clip's package, without importing it."""
    spec = find_spec("open_clip")
    assert spec is not None and spec.origin is not None, "open_clip_torch is a dependency"
    with gzip.open(Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz"), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : 1 + MERGES]
    merges = [(first, second) for first, _, second in (line.partition(" ") for line in lines)]
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]  # bytes that are no visible character
    by_byte = {byte: chr(byte) for byte in shown} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}
    single = list(by_byte.values())
    symbols = [*single, *(f"{symbol}</w>" for symbol in single), *map("".join, merges), START, END]
    ids = {symbol: number for number, symbol in enumerate(symbols)}
    return Vocabulary(ids, {pair: rank for rank, pair in enumerate(merges)}, [by_byte[byte] for byte in range(256)])
