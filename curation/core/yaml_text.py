"""A strict YAML reader for recipes: numbers, strings, booleans, null, lists and mappings, and nothing else.

Recipes come from untrusted authors, so every limit is checked before it costs anything: 4 MiB of text (20 s), 64
levels, 100 digits a number, and a million values after aliases are expanded. YAML 1.1's surprises (dates, `1:20` as the
number 80) and keys that are not strings are errors that name their line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

DEEPEST = 64
LARGEST_TEXT = 4 << 20
_DIGITS = 100

_MERGE = "tag:yaml.org,2002:merge"  # `<<`, the only key that may be repeated
_MOST = 1_000_000  # keys and entries of a document, with those of an alias counted at each use
_PREFIX = "tag:yaml.org,2002:"
_SCALARS = {"str", "int", "float", "bool", "null", "merge"}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_QUOTE = "put it in quotes if it is a string"


class _Loader(yaml.SafeLoader):
    """A loader for one document. Raises `yaml.MarkedYAMLError` whose problem is one line."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._levels = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._levels += 1
        if self._levels > DEEPEST:
            raise _problem(self.current_event, f"the document is nested deeper than {DEEPEST} levels")
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
    """Return the plain value of a document, and the line of each key and list entry by its path.

    Raises `yaml.MarkedYAMLError` for anything but a strict document (see the module's docstring).
    """
    if len(text) > LARGEST_TEXT:
        problem = f"the document has {len(text):,} characters; the limit is {LARGEST_TEXT:,}"
        raise yaml.MarkedYAMLError(problem=problem)
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        mark = yaml.Mark("", error.position, text.count("\n", 0, error.position), 0, None, 0)
        raise yaml.MarkedYAMLError(problem="the document contains a control character", problem_mark=mark) from None
    node = loader.get_single_node()
    found = _lines(node)  # first, because it limits how far aliases can expand the value
    return None if node is None else loader.construct_document(node), found


def _lines(node: yaml.Node | None) -> dict[tuple[Any, ...], int]:
    """Return the line of each key and entry.

    Raises `yaml.MarkedYAMLError` for a repeated key, of which PyYAML would silently use the last, and for aliases that
    expand without end, or nearly.
    """
    found: dict[tuple[Any, ...], int] = {}
    for loc, mark in _walk(node, ()) if node is not None else ():
        if loc in found:
            problem = f"the key {loc[-1]} is repeated; it is first in line {found[loc]}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        if len(loc) > DEEPEST or len(found) > _MOST:
            problem = f"the document has more than {_MOST:,} values or {DEEPEST} levels once its aliases are expanded"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        found[loc] = mark.line + 1
    return found


def _walk(node: yaml.Node, loc: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(node, yaml.MappingNode):
        for n, (key, value) in enumerate(node.value):
            if isinstance(key, yaml.ScalarNode):  # other keys are errors, raised by `_check_key`
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
        raise _problem(node, f"the type {_named(kind)} is not allowed; a recipe has plain lists and mappings")


def _check_scalar(node: yaml.ScalarNode, kind: str) -> None:
    text = node.value
    if kind == "str":
        if _CONTROL.search(text):
            node.value = text = _joined(text)
        if _CONTROL.search(text):
            raise _problem(node, "the value contains a control character or half of a surrogate pair")
    elif kind == "timestamp":
        raise _problem(node, f"{text[:40]} is a date in YAML; {_QUOTE}")
    elif kind not in _SCALARS:
        raise _problem(node, f"the type {_named(kind)} is not allowed in a recipe; {_QUOTE}")
    elif kind in ("int", "float") and ":" in text:
        raise _problem(node, f"{text[:40]} is a base-60 number in YAML; {_QUOTE}")
    elif kind == "int" and len(text) > _DIGITS:
        raise _problem(node, f"a number has {len(text):,} digits; the limit is {_DIGITS}")


def _check_key(key: yaml.Node) -> None:
    if not isinstance(key, yaml.ScalarNode):
        raise _problem(key, "a key is a list or a mapping; it must be a string")
    kind = key.tag.removeprefix(_PREFIX)
    if kind not in ("str", "merge"):
        raise _problem(key, f"the key {key.value[:40]} is not a string in YAML, but {kind}; put it in quotes")


def _joined(text: str) -> str:
    r"""Decode the surrogate pairs with which JSON writes characters beyond 16 bits, as in "\ud83d\ude00"."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _HALVES.search(text) else text


_HALVES = re.compile(r"[\ud800-\udbff][\udc00-\udfff]")


def _named(kind: str) -> str:
    return f"!!{kind[:40]}" if not kind.startswith("!") else kind[:40]


def _problem(at: Any, text: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=at.start_mark)
