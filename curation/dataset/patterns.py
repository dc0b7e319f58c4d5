"""Patterns of keys: braces (`{00000..01287}`, `{a,b}`), `*`, `?`, `[abc]` and `[!abc]`. Only braces match a `/`.

A recipe's patterns may be hostile, so matching never backtracks: a pattern is a list of parts, and each part maps the
set of positions in the key that the earlier parts reach to the set that it reaches. Cost: at most the length of the key
for each part, about 4 us for `{00000..01287}.tar` or `*.tar`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from fnmatch import translate

from curation.core.errors import RecipeError

Places = Collection[int]
Part = Callable[[str, Places], Places]  # (key, positions before the part) -> positions after it

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]+)\.\.([0-9]+)\Z")
MOST_DIGITS = 18  # digits of a number in a range


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Return a predicate on keys: whether one of the patterns matches. "" and `folder/` match all keys below.

    A range of numbers takes one comparison whatever its size. Raises `RecipeError` for a number of more than 18 digits.
    """
    rules = [_rule(pattern) for pattern in patterns]
    return lambda key: any(rule(key) for rule in rules)


def _rule(pattern: str) -> Callable[[str], bool]:
    if not pattern or pattern.endswith("/"):
        return lambda key: key.startswith(pattern)
    parts = list(_parts(pattern))

    def matches(key: str) -> bool:
        places: Places = (0,)
        for part in parts:
            places = part(key, places)
            if not places:
                return False
        return len(key) in places

    return matches


def _parts(pattern: str) -> Iterator[Part]:
    for i, piece in enumerate(_BRACES.split(pattern)):
        if i % 2 == 0:
            yield from map(_plain, _pieces(piece))
        elif found := _RANGE.match(piece):
            if max(map(len, found.groups())) > MOST_DIGITS:
                text = f"a range in the corpus pattern has numbers of more than {MOST_DIGITS} digits"
                raise RecipeError(text, fix="use fewer digits, or *")
            yield _numbers(found[1], found[2])
        else:
            yield _choices(piece.split(","))


def _pieces(text: str) -> Iterator[str]:
    """Yield `*`, `?`, `[...]` and the text between them. An unclosed `[` is a literal, as in `fnmatch`."""
    word, place, last = 0, 0, text.rfind("]")
    while place < len(text):
        end = place + 1
        if text[place] == "[" and place < last:
            end = text.find("]", place + 3 if text.startswith("[!", place) else place + 2) + 1
        if text[place] in "*?" or end > place + 1:
            yield from (part for part in (text[word:place], text[place:end]) if part)
            word = end
        place = max(end, place + 1)
    if text[word:]:
        yield text[word:]


def _plain(piece: str) -> Part:
    if piece == "*":
        return _star
    if piece == "?":
        return lambda key, places: {place + 1 for place in places if key[place : place + 1] not in ("", "/")}
    if piece.startswith("[") and len(piece) > 1 and piece.endswith("]"):
        letter = re.compile(f"(?!/){translate(piece)}")
        return lambda key, places: {place + 1 for place in places if letter.match(key[place : place + 1])}
    return _choices([piece])


def _star(key: str, places: Places) -> Places:
    """Match any characters up to the next `/`. Later positions in the same folder add nothing to the first."""
    found: list[range] = []
    for place in sorted(places):
        if not found or place >= found[-1].stop:
            end = key.find("/", place)
            found.append(range(place, (len(key) if end < 0 else end) + 1))
    return found[0] if len(found) == 1 else {place for some in found for place in some}


def _choices(words: Sequence[str]) -> Part:
    def step(key: str, places: Places) -> Places:
        if len(places) == 1:
            (place,) = places
            return {place + len(word) for word in words if key.startswith(word, place)}
        return {place + len(word) for word in words for place in _occurrences(key, word) if place in places}

    return step


def _occurrences(key: str, word: str) -> Iterator[int]:
    place = key.find(word)
    while place >= 0:
        yield place
        place = key.find(word, place + 1) if place < len(key) else -1


def _numbers(first: str, last: str) -> Part:
    """Match a number from `first` to `last`, zero-padded to the width of `first`, or longer where necessary."""
    least, most, widths = int(first), int(last), range(len(first), max(len(first), len(last)) + 1)

    def step(key: str, places: Places) -> Places:
        return {
            place + width
            for place in places
            for width in widths
            if len(digits := key[place : place + width]) == width
            and digits.isascii()
            and digits.isdecimal()
            and least <= int(digits) <= most
        }

    return step
