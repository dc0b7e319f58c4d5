"""A json keeps its bytes when uid and source are spliced in, whether it was parsed for it or not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curation.core.types import ShardRef
from curation.curating import annotation
from curation.curating.annotation import annotate, annotate_all

SHARD = ShardRef("a.tar", 1, "e")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text().filter(lambda key: key != "tutelage"), JSON), st.sampled_from([None, 1]), st.booleans()
)
def test_annotate_keeps_every_other_byte(value: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    original = (json.dumps(value, indent=indent, ensure_ascii=ascii_only) + "\n ").encode(errors="surrogatepass")
    try:
        original.decode()
    except UnicodeDecodeError:
        return  # a lone surrogate is not UTF-8: such a json is quarantined before it gets here
    out = annotate(original, "u", SHARD, 512, 1024)
    assert out.startswith(original.rstrip()[:-1].rstrip())
    entry = json.loads(out)
    assert entry.pop("tutelage") == {"uid": "u", "source": {"key": "a.tar", "etag": "e", "offset": 512, "length": 1024}}
    assert entry == value


def test_annotate_keeps_an_earlier_entry_as_parent() -> None:
    once = annotate(b'{"a": 1}', "u", SHARD, 0, 512)
    twice = json.loads(annotate(once, "v", ShardRef("b.tar", 1, "f"), 7, 9))
    assert twice["a"] == 1
    assert twice["tutelage"]["uid"] == "v"
    assert twice["tutelage"]["parent"] == json.loads(once)["tutelage"]


@pytest.mark.parametrize("original", [b"{}", b" { } ", b'{"a":1.50, "a": 2}'])
def test_annotate_odd_but_valid(original: bytes) -> None:
    assert json.loads(annotate(original, "u", SHARD, 0, 1))["tutelage"]["uid"] == "u"


@given(
    st.dictionaries(st.text() | st.sampled_from(["tutelage", "tutelag\u00e9"]), JSON, max_size=4),
    st.sampled_from([None, 1]),
    st.booleans(),
    st.sampled_from(["a.tar", '50%d "of".tar', "\u65e5%%.tar"]),
)
@example({}, None, False, "a.tar")
@example({"tutelage": 1}, 1, True, "a.tar")
def test_a_json_is_the_same_whether_it_is_parsed_or_not(
    value: dict[str, Any], indent: int | None, ascii_only: bool, key: str
) -> None:
    original = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    try:
        original.decode()
    except UnicodeDecodeError:
        return
    shard, uid = ShardRef(key, 9, "e-%s"), "0" * 32
    for text in (original, b" \n" + original + b"\r\n\t "):
        assert annotate(text, uid, shard, 512, 1024) == annotation._parsed(text, uid, shard, 512, 1024)


@pytest.mark.parametrize("escaped", [rb"\u0074utelage", rb"tutela\u0067e", rb"t\u0075telage", rb"tutela\u0067\u0065"])
def test_a_key_is_found_however_it_is_escaped(escaped: bytes) -> None:
    found = json.loads(annotate(b'{"%b": {"uid": "before"}}' % escaped, "0" * 32, SHARD, 512, 1024))
    assert list(found) == ["tutelage"] and found["tutelage"]["parent"] == {"uid": "before"}


def test_samples_keep_their_order() -> None:
    uids = [f"{n:032x}" for n in range(3)]
    found = annotate_all([b"{}", b'{"tutelage": 1}', b'{"a": 1}'], uids, SHARD, [0, 1, 2], [5, 6, 7])
    entries = [json.loads(text)["tutelage"] for text in found]
    assert [entry["uid"] for entry in entries] == uids
    assert [(entry["source"]["offset"], entry["source"]["length"]) for entry in entries] == [(0, 5), (1, 6), (2, 7)]
