"""The definition of a caption's words, shared by scorers (in Python) and filters (in SQL).

A word is a run of characters without white space. In scripts written without spaces (kana, Han) every character is a
word. A run of only control and invisible characters (NUL, zero-width space, byte order mark) is not a word. The
patterns use plain character classes, which Python's `re` and DuckDB's RE2 interpret alike; `\\s` means all of Unicode's
white space in one and six characters in the other.
"""

from __future__ import annotations

import re

_OWN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"

#: White space by `str.isspace`, for use within a character class. The last such character is U+3000.
SPACE = "".join(letter for letter in map(chr, range(0x3001)) if letter.isspace())
# Control characters except white space, and Unicode's default-ignorable characters outside the supplementary planes.
_UNSEEN = (
    r"\x00-\x08\x0e-\x1b\x7f"
    "\x80-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
)
#: The pattern of one word, for SQL. Python code calls `words` instead, because Python's `re` takes quadratic time for
#: this pattern on a long run of unseen characters.
WORD = f"[{_OWN}]|[{_UNSEEN}]*[^{SPACE}{_OWN}{_UNSEEN}][^{SPACE}{_OWN}]*"

_RUN = re.compile(f"[{_OWN}]|[^{SPACE}{_OWN}]+")
_HIDDEN, _SEEN = re.compile(f"[{_UNSEEN}]"), re.compile(f"[^{_UNSEEN}]")


def words(text: str) -> list[str]:
    """Return the words of a text, the same ones that `WORD` matches, in linear time."""
    found = _RUN.findall(text)
    return [word for word in found if _SEEN.search(word)] if _HIDDEN.search(text) else found


def fold(text: str) -> str:
    """Lower-case a text character by character, as DuckDB's `lower` does.

    Python's `str.lower` depends on neighbours (a final sigma) and can return two characters for one (the Turkish dotted
    I).
    """
    return text.lower() if text.isascii() else "".join(map(str.lower, text.replace("\u0130", "i")))
