"""Terminal-safe text: no control sequences, no hidden change of direction, one line."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

# Categories that are escaped: control characters (Cc: newline, ESC, C1), invisible formatting (Cf: bidi overrides and
# isolates, zero-width characters), line and paragraph separators, surrogates, private use and unassigned code points.
_HIDDEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"})
_JOINERS = "\u200c\u200d"  # part of words in several scripts and of emoji; they reorder nothing


def printable(text: object) -> str:
    r"""Escape every character that a terminal obeys or hides, as `\x1b` or `\u202e`. Cost: 1 us for 20 characters.

    Every command passes keys, captions, names, reasons and URLs that come from data through this function.
    """
    plain = str(text)
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(letter if _shown(letter) else _escaped(letter) for letter in plain)


def printable_lines(lines: Iterable[object]) -> str:
    """Join the lines of a report, each made printable."""
    return "\n".join(map(printable, lines))


def _shown(letter: str) -> bool:
    return letter in _JOINERS or unicodedata.category(letter) not in _HIDDEN


def _escaped(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
