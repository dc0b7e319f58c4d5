"""YAML text to a tree and its plain value: numbers, words, true and false, null, lists and mappings, and nothing else.

Recipes are written by others, so every bound is checked before it costs anything: 4 MiB of text (20 s), 64 levels, 100
digits of a number, and, in `yaml_document`, a million places after aliases. What YAML 1.1 makes of plain words (dates,
1:20 as the number 80) is a mistake that names its line, and so are keys that are no words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

DEEPEST = 64
LARGEST_TEXT = 4 << 20
_DIGITS = 100

_MERGE = "tag:yaml.org,2002:merge"  # `<<`, which may be there twice
_MOST = 1_000_000  # places of a document, those of aliases counted each time; a list of words may be long
_PREFIX = "tag:yaml.org,2002:"
_SCALARS = {"str", "int", "float", "bool", "null", "merge"}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_QUOTE = "put it in quotes, if it is a word"


class _Loader(yaml.SafeLoader):
    """Composes and constructs once. Raises `yaml.MarkedYAMLError` with a problem of one line."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._levels = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._levels += 1
        if self._levels > DEEPEST:
            raise _problem(self.current_event, f"it is nested deeper than {DEEPEST} levels")
        try:
            node = super().compose_node(parent, index)
        finally:
            self._levels -= 1
        if node is not None and not self.check_event(yaml.AliasEvent):
            _check(node)
        if isinstance(node, yaml.MappingNode):
            for key, _ in node.value:
                _check_key(key)
        return node


def load(text: str) -> tuple[Any, dict[tuple[Any, ...], int]]:
    """The plain value of a document, and in which line each key and entry stands. Raises `yaml.MarkedYAMLError`."""
    if len(text) > LARGEST_TEXT:
        raise yaml.MarkedYAMLError(problem=f"it has {len(text):,} characters, of at most {LARGEST_TEXT:,}")
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        mark = yaml.Mark("", error.position, text.count("\n", 0, error.position), 0, None, 0)
        raise yaml.MarkedYAMLError(problem="it holds a control character", problem_mark=mark) from None
    node = loader.get_single_node()
    found = _lines(node)  # first, since it bounds what aliases make of the value
    return None if node is None else loader.construct_document(node), found


def _lines(node: yaml.Node | None) -> dict[tuple[Any, ...], int]:
    """Where each key and entry stands. Raises `yaml.YAMLError` for what YAML's loader would pass over: a key that is
    there twice, of which it takes the last; and for aliases that make a document without an end, or nearly."""
    found: dict[tuple[Any, ...], int] = {}
    for loc, mark in _walk(node, ()) if node is not None else ():
        if loc in found:
            raise yaml.MarkedYAMLError(problem=f"{loc[-1]} stands in line {found[loc]}, too", problem_mark=mark)
        if len(loc) > DEEPEST or len(found) > _MOST:
            raise yaml.MarkedYAMLError(problem="it has too many parts, perhaps by its aliases", problem_mark=mark)
        found[loc] = mark.line + 1
    return found


def _walk(node: yaml.Node, loc: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(node, yaml.MappingNode):
        for n, (key, value) in enumerate(node.value):
            if isinstance(key, yaml.ScalarNode):  # others can't be loaded
                at = (*loc, key.value, n) if key.tag == _MERGE else (*loc, key.value)
                yield at, key.start_mark
                yield from _walk(value, at)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield (*loc, i), value.start_mark
            yield from _walk(value, (*loc, i))


def _check(node: yaml.Node) -> None:
    kind = node.tag.removeprefix(_PREFIX)
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(node, kind)
    elif kind != ("map" if isinstance(node, yaml.MappingNode) else "seq"):
        raise _problem(node, f"{_named(kind)} is neither a list nor a mapping of a recipe")


def _check_scalar(node: yaml.ScalarNode, kind: str) -> None:
    text = node.value
    if kind == "str":
        if _CONTROL.search(text):
            node.value = text = _joined(text)
        if _CONTROL.search(text):
            raise _problem(node, "it holds a control character, or half of a character")
    elif kind == "timestamp":
        raise _problem(node, f"{text[:40]} is a date in YAML; {_QUOTE}")
    elif kind not in _SCALARS:
        raise _problem(node, f"{_named(kind)} is no type of a recipe's values; {_QUOTE}")
    elif kind in ("int", "float") and ":" in text:
        raise _problem(node, f"{text[:40]} is a number of base 60 in YAML; {_QUOTE}")
    elif kind == "int" and len(text) > _DIGITS:
        raise _problem(node, f"a number has {len(text):,} digits, of at most {_DIGITS}")


def _check_key(key: yaml.Node) -> None:
    if not isinstance(key, yaml.ScalarNode):
        raise _problem(key, "a key is a list or a mapping, and not a word")
    kind = key.tag.removeprefix(_PREFIX)
    if kind not in ("str", "merge"):
        raise _problem(key, f"the key {key.value[:40]} is not a word in YAML, but {kind}; put it in quotes")


def _joined(text: str) -> str:
    r"""JSON's way of writing characters beyond 16 bits, as in "\ud83d\ude00", as those characters."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _HALVES.search(text) else text


_HALVES = re.compile(r"[\ud800-\udbff][\udc00-\udfff]")


def _named(kind: str) -> str:
    return f"!!{kind[:40]}" if not kind.startswith("!") else kind[:40]


def _problem(at: Any, text: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=at.start_mark)
