"""Names of types: the words and attributes that their samples have more often than samples that the model gets right.

The words of a caption and the plain values of the json are terms. The name has the terms with the largest log-odds,

    log (n + 1/2) / (N - n + 1/2)  -  log (m + 1/2) / (M - m + 1/2),

where n of the N samples of the type have the term, and m of the M right samples. Terms that fewer than a fifth of the
type have don't describe it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from math import log
from typing import Any

from curation.core.origins import PROVENANCE

MOST_TERMS = 3
LEAST_SHARE = 0.2  # of the type's samples that have a term
LEAST_ODDS = 1.0  # log-odds: 2.7 times the odds among right samples
MOST_LENGTH = 40  # characters of a term
_WORD = re.compile(r"\w[\w'-]+")

Terms = frozenset[str]


def terms_of(caption: str, fields: Mapping[str, Any], without: Sequence[str] = ()) -> Terms:
    """Return the terms of a sample: words in lower case, and `field=value`. without: fields that are left out."""
    found = {word.lower() for word in _WORD.findall(caption)}
    for name, value in fields.items():
        if name not in (*without, PROVENANCE, "caption", "text") and isinstance(value, (str, int, bool)):
            found.add(f"{name}={value}")
    return frozenset(term for term in found if len(term) <= MOST_LENGTH)


def distinct_terms(ours: Sequence[Terms], others: Sequence[Terms]) -> list[str]:
    """Return at most `MOST_TERMS` terms by log-odds, ties by name."""
    here, there = (Counter(term for one in side for term in one) for side in (ours, others))

    def odds(term: str) -> float:
        n, m = here[term], there[term]
        return log((n + 0.5) / (len(ours) - n + 0.5)) - log((m + 0.5) / (len(others) - m + 0.5))

    frequent = [term for term, count in here.items() if count >= LEAST_SHARE * len(ours)]
    ranked = sorted((-odds(term), term) for term in frequent if odds(term) >= LEAST_ODDS)
    return [term for _, term in ranked[:MOST_TERMS]]


def name_of(expected: str, guess: str, terms: Sequence[str]) -> str:
    """Return the name of a type: `dog as cat: night, camera=7`."""
    return f"{expected} as {guess}" + (f": {', '.join(terms)}" if terms else "")
