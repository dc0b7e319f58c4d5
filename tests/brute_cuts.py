"""Filters that look at one column, by their definitions in plain Python: which rows leave."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from rows_given import Row

from curation.filters.caption import Caption
from curation.filters.image_size import ImageSize
from curation.filters.threshold import Threshold
from curation.filters.top_fraction import TopFraction


def words_of(caption: str) -> list[str]:
    out: list[str] = []
    for piece in caption.lower().split():
        run = ""
        for char in piece:
            if "一" <= char <= "鿿":
                out += [run] * bool(run) + [char]
                run = ""
            else:
                run += char
        out += [run] * bool(run)
    return out


def brute_caption(item: Caption, rows: list[Row]) -> set[int]:
    out = set()
    for i, row in enumerate(rows):
        words = words_of(row["caption"])
        bad = len(words) < item.min_words or len(row["caption"].strip()) < item.min_chars
        bad |= item.max_words is not None and len(words) > item.max_words
        bad |= item.max_chars is not None and len(row["caption"].strip()) > item.max_chars
        if words and item.max_repetition is not None:
            bad |= 1 - len(set(words)) / len(words) > item.max_repetition
        if bad:
            out.add(i)
    return out


def brute_top(item: TopFraction, rows: list[Row]) -> set[int]:
    alive = [i for i, row in enumerate(rows) if row["reason"] is None]
    keep = int(Fraction(str(item.fraction)) * len(alive) + Fraction(1, 2))
    ranked = sorted(alive, key=lambda i: (-rows[i]["score"], rows[i]["uid"]))
    return set(ranked[keep:])


def brute_size(item: ImageSize, rows: list[Row]) -> set[int]:
    def bad(row: Row) -> bool:
        short, long = sorted((row["width"], row["height"]))
        return short < item.min_side or (item.max_aspect is not None and long > item.max_aspect * short)

    return {i for i, row in enumerate(rows) if bad(row)}


def brute_threshold(item: Threshold, rows: list[Row]) -> set[int]:
    low = -np.inf if item.min is None else np.float32(item.min)
    high = np.inf if item.max is None else np.float32(item.max)
    return {i for i, row in enumerate(rows) if not low <= np.float32(row["score"]) <= high}
