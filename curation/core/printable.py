"""Text from data as a terminal may show it: no control sequences, no hidden change of direction, one line."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

# What is written as an escape: control characters (Cc: newline, ESC, C1), invisible formatting (Cf: bidi overrides and
# isolates, zero-width characters), line and paragraph separators, surrogates, private use and unassigned code points.
_HIDDEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"})
_JOINERS = "\u200c\u200d"  # within words of several scripts and within emoji; they move nothing


def printable(text: object) -> str:
    r"""The text with everything that a terminal obeys or hides written as `\x1b`, `\u202e`: 1 us for 20 characters.

    Every command that shows keys, captions, names, reasons or addresses that come from data passes them through here.
    """
    plain = str(text)
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(letter if _shown(letter) else _escaped(letter) for letter in plain)


def printable_lines(lines: Iterable[object]) -> str:
    """Lines of a report as one text, each printable."""
    return "\n".join(map(printable, lines))


def _shown(letter: str) -> bool:
    return letter in _JOINERS or unicodedata.category(letter) not in _HIDDEN


def _escaped(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
