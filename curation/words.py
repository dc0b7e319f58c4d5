"""What a word of a caption is: one definition for scorers, in Python, and for filters, in SQL.

A word is a run without white space; in scripts that write without spaces (kana, Han), every character is one. Patterns
are of plain character classes, which Python's `re` and DuckDB's RE2 read alike: `\\s` is all of Unicode's white space
to the one, and six characters to the other.
"""

from __future__ import annotations

_OWN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"

#: White space as `str.isspace` has it, for use within a character class. None is above U+3000.
SPACE = "".join(letter for letter in map(chr, range(0x3001)) if letter.isspace())
#: A pattern of one word.
WORD = f"[{_OWN}]|[^{SPACE}{_OWN}]+"


def fold(text: str) -> str:
    """Small letters, one for one, as DuckDB's `lower` has them: Python's looks at neighbours (the sigma that ends a
    word) and makes two of one (the Turkish I with a dot)."""
    return text.lower() if text.isascii() else "".join(map(str.lower, text.replace("\u0130", "i")))
