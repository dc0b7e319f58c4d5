"""Balancing filters by their definitions in plain Python: the filters' own tests compare with them."""

from __future__ import annotations

from collections import Counter
from hashlib import md5
from heapq import heapify, heapreplace
from math import exp, log, prod
from typing import Any

from curation.filters.cluster_balance import ClusterBalance
from curation.filters.mentions import Mentions
from curation.filters.metaclip_balance import MetaclipBalance
from curation.filters.phrases import Phrases
from curation.filters.soft_cap import SoftCap
from curation.filters.soft_cap_sampling import SoftCapSampling

Row = dict[str, Any]


def luck(seed: int, of: str, uid: str) -> float:
    """The number of `draw`: the upper 53 bits of md5, whose halves DuckDB reads little-endian."""
    return (int.from_bytes(md5(f"{seed} {of} {uid}".encode()).digest()[:8], "little") >> 11) / 2**53


def alive(rows: list[Row]) -> list[int]:
    return [i for i, row in enumerate(rows) if row["reason"] is None]


def spacing(text: str) -> str:
    """Match substrings like MetaCLIP's substr_matching.py."""
    text = f" {text} "
    for mark in ",.;:?!`":
        text = text.replace(mark, f" {mark} ")
    for white in "\t\n\r":
        text = text.replace(white, " ")
    return text


def matched(item: Phrases, caption: str) -> list[str]:
    """The entries that a caption mentions: MetaCLIP's sub-string matching, of entries without white space around."""
    cased = str.lower if item.ignore_case else str
    text = spacing(cased(caption))
    return [entry for entry in sorted({cased(entry.strip()) for entry in item.entries}) if f" {entry} " in text]


def brute_mentions(item: Mentions, rows: list[Row]) -> set[int]:
    return {i for i in alive(rows) if not matched(item, rows[i]["caption"])}


def chances(item: MetaclipBalance, rows: list[Row]) -> dict[int, float]:
    """The probability with which algorithm 1 keeps each row."""
    found = {i: matched(item, rows[i]["caption"]) for i in alive(rows)}
    count = Counter(entry for entries in found.values() for entry in entries)
    return {i: 1 - prod(1 - min(1, item.t / count[entry]) for entry in entries) for i, entries in found.items()}


def brute_metaclip(item: MetaclipBalance, rows: list[Row]) -> set[int]:
    return {
        i for i, share in chances(item, rows).items() if luck(item.seed, "metaclip_balance", rows[i]["uid"]) >= share
    }


def brute_cluster(item: ClusterBalance, rows: list[Row]) -> set[int]:
    def order(i: int) -> tuple[float, str]:
        if item.prefer:
            return -rows[i][item.prefer], rows[i]["uid"]
        return luck(item.seed, f"cluster_balance {item.column}", rows[i]["uid"]), rows[i]["uid"]

    kept: Counter[Any] = Counter()
    out = set()
    for i in sorted(alive(rows), key=order):
        kept[rows[i][item.column]] += 1
        if kept[rows[i][item.column]] > item.most:
            out.add(i)
    return out


def shares(item: SoftCap, rows: list[Row]) -> dict[int, float]:
    """The probability with which each row stays."""
    sizes = Counter(rows[i][item.column] for i in alive(rows))
    targets = {group: item.cap * (n / item.cap) ** item.alpha for group, n in sizes.items()}
    return {i: min(1, targets[group] / sizes[group]) for i, group in ((i, rows[i][item.column]) for i in alive(rows))}


def brute_soft_cap(item: SoftCap, rows: list[Row]) -> set[int]:
    return {
        i
        for i, share in shares(item, rows).items()
        if luck(item.seed, f"soft_cap {item.column}", rows[i]["uid"]) >= share
    }


def brute_draws(item: SoftCapSampling, rows: list[Row]) -> Counter[int]:
    """Draws of each row: the clock that rings next, `draws` times, and each time it is set again."""

    def wait(i: int, drawn: int) -> float:
        of = f"soft_cap_sampling {item.score} {drawn}"
        rate = exp(item.gain * rows[i][item.score] - item.penalty * drawn)
        return -log(max(luck(item.seed, of, rows[i]["uid"]), 2**-54)) / rate

    clocks = [(wait(i, 0), rows[i]["uid"], i) for i in alive(rows)]
    heapify(clocks)
    times: Counter[int] = Counter()
    for _ in range((item.draws or len(clocks)) if clocks else 0):
        now, uid, i = clocks[0]
        times[i] += 1
        heapreplace(clocks, (now + wait(i, times[i]), uid, i))
    return times


def brute_soft_cap_sampling(item: SoftCapSampling, rows: list[Row]) -> set[int]:
    return set(alive(rows)) - set(brute_draws(item, rows))
