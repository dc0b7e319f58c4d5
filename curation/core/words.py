"""What a word of a caption is: one definition for scorers, in Python, and for filters, in SQL.

A word is a run without white space; in scripts that write without spaces (kana, Han), every character is one. Patterns
are of plain character classes, which Python's `re` and DuckDB's RE2 read alike: `\\s` is all of Unicode's white space
to the one, and six characters to the other. A run of nothing but control and invisible characters (NUL, zero-width
space, byte order mark) is no word: whoever looks at the caption sees none.
"""

from __future__ import annotations

import re

_OWN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"

#: White space as `str.isspace` has it, for use within a character class. None is above U+3000.
SPACE = "".join(letter for letter in map(chr, range(0x3001)) if letter.isspace())
# Controls that are no white space, and what Unicode calls default-ignorable, outside the supplementary planes.
_UNSEEN = (
    r"\x00-\x08\x0e-\x1b\x7f"
    "\x80-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
)
#: A pattern of one word. For SQL: on a long run of unseen characters Python's `re` takes quadratic time; see `words`.
WORD = f"[{_OWN}]|[{_UNSEEN}]*[^{SPACE}{_OWN}{_UNSEEN}][^{SPACE}{_OWN}]*"

_RUN = re.compile(f"[{_OWN}]|[^{SPACE}{_OWN}]+")
_HIDDEN, _SEEN = re.compile(f"[{_UNSEEN}]"), re.compile(f"[^{_UNSEEN}]")


def words(text: str) -> list[str]:
    """The words of a text, as `WORD` finds them, in linear time."""
    found = _RUN.findall(text)
    return [word for word in found if _SEEN.search(word)] if _HIDDEN.search(text) else found


def fold(text: str) -> str:
    """Small letters, one for one, as DuckDB's `lower` has them: Python's looks at neighbours (the sigma that ends a
    word) and makes two of one (the Turkish I with a dot)."""
    return text.lower() if text.isascii() else "".join(map(str.lower, text.replace("\u0130", "i")))
