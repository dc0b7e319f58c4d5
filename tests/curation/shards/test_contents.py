"""The contents of a sample: the place of its caption, rejected json, and json that later steps must tolerate."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from builders import PLAIN, picture, problems, write_recipe
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from running import curate

from curation.core.errors import ImageError
from curation.core.origins import PROVENANCE
from curation.core.types import ShardRef
from curation.curating.annotation import annotate
from curation.shards import contents
from curation.shards.contents import caption, depth, detail_of, metadata, parse
from curation.shards.tar_samples import read_samples
from curation.shards.tar_writer import TarWriter

SHARD = ShardRef("a.tar", 1, "e")


def refusal(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        metadata(data)
    assert caught.value.reason == "bad_json"
    return str(caught.value)


def nested(levels: int, inner: bytes = b"1") -> bytes:
    return b'{"a":' * levels + inner + b"}" * levels


# --- json ---------------------------------------------------------------------------------------------------------


def test_json_that_no_later_step_could_write_is_refused() -> None:
    assert "surrogate" in refusal(b'{"tutelage": "\\ud800"}')
    assert "surrogate" in refusal(b'{"\\uDFFF": 1}')
    assert "nested deeper than 100" in refusal(nested(101)) and "nested" in refusal(nested(100_000))
    assert "nested" in refusal(b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}")
    assert "4300" in refusal(b'{"a": ' + b"9" * 5000 + b"}")
    assert "not an object" in refusal(b"[1]")
    assert metadata(nested(100)) and metadata(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}
    assert metadata(b'{"a": [' + b"[]," * 500 + b"[]]}")  # many, and not deep


def test_a_large_json_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MAX_JSON_BYTES", 20)
    assert "more than 20" in refusal(b'{"a": "' + b"x" * 20 + b'"}')


def test_depth() -> None:
    assert [depth(value) for value in (1, {}, [[]], {"a": [1, {"b": 2}]})] == [0, 1, 2, 3]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "tutelage", "é", ""]), inner, max_size=3)
    ),
    max_leaves=10,
)
ODD = [
    b'{"tutelage": "\\ud800"}', b'{"a": NaN}', b'{"a": 1e999, "tutelage": -Infinity}',
    b'{"a":1,"a":2,"tutelage":1,"tutelage":2}',
    b' {} ', b'{"tutelage":{}}\n\t', nested(100), nested(99, b'{"tutelage": 1}'), b'{"tutelage": ' + nested(99) + b"}",
    b'{"a": "}"}', b'{"a": 1 }', b"{\n}", b'{"a": ' + b"9" * 4300 + b', "tutelage": 0}',
]  # fmt: skip


@st.composite
def jsons(draw: Any) -> bytes:
    value = draw(
        st.dictionaries(
            st.sampled_from(["caption", "text", "tutelage", "name"]) | st.text(max_size=3), VALUES, max_size=4
        )
    )
    try:
        data = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))).encode()
    except UnicodeEncodeError:
        data = json.dumps(value).encode()
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.sampled_from([b"", b" ", b"\0", b"\\ud800", b"1", b"\xff", b'"', b"{}"])) + data[at:]
    return data


@given(data=jsons() | st.sampled_from(ODD) | st.binary(max_size=30))
@example(data=b'{"tutelage": ' + nested(99) + b"}")
def test_json_that_is_accepted_is_annotated_and_read_again_for_ever(data: bytes) -> None:
    try:
        before = metadata(data)
    except ImageError:
        return
    for generation in range(3):
        data = annotate(data, "f" * 32, SHARD, generation, 512)
        after = metadata(data)
        assert after[PROVENANCE]["uid"] == "f" * 32
        assert repr({k: v for k, v in after.items() if k != PROVENANCE}) == repr(
            {k: v for k, v in before.items() if k != PROVENANCE}
        )


# --- captions -----------------------------------------------------------------------------------------------------


def test_where_captions_are_found() -> None:
    said = {"caption": "from caption", "text": "from text", "alt": "from alt", "none": None, "n": 3}
    assert caption({"txt": b"from txt"}, said) == "from txt"
    assert caption({}, said) == "from caption"
    assert caption({}, {"caption": None, "text": "from text"}) == "from text"
    assert caption({"txt": b"from txt"}, said, "json.alt") == "from alt"
    assert caption({"txt": b"from txt"}, said, "txt") == "from txt"
    for parts, told, place, reason in (
        ({}, {}, "", "missing_text"),
        ({}, said, "txt", "missing_text"),
        ({"txt": b"x"}, said, "json.nothing", "missing_text"),
        ({"txt": b"x"}, said, "json.none", "missing_text"),
        ({"txt": b"x"}, said, "json.n", "caption_not_text"),
        ({}, {"caption": ["a"]}, "", "caption_not_text"),
        ({}, {"caption": "x" * (contents.MAX_CAPTION_BYTES + 1)}, "", "caption_too_long"),
        ({"txt": b"\xff"}, said, "", "caption_not_utf8"),
    ):
        with pytest.raises(ImageError) as caught:
            caption(parts, told, place)
        assert caught.value.reason == reason and caught.value.reason in contents.REASONS


def test_a_message_is_one_printable_line() -> None:
    assert detail_of("a\nb\x1b[31m\0é") == "a\\nb\\x1b[31m\\x00é"
    assert len(detail_of("\0" * 500)) <= 200
    assert detail_of("no image in <_io.BytesIO object at 0x7f1b2c>") == "no image in <_io.BytesIO object>"
    detail_of("\ud800").encode()


def tar_of(members: list[tuple[str, bytes]]) -> bytes:
    file = io.BytesIO()
    writer = TarWriter(file)
    for name, data in members:
        writer.add(name, data)
    writer.close()
    return file.getvalue()


def by_json(root: Path, field: str, n: int = 12) -> Path:
    """A shard whose captions stand in the json."""
    members = []
    for i in range(n):
        value = {field: f"a picture of thing {i}", "name": f"thing-{i}"}
        members += [(f"s{i:03d}.png", picture(i, "png")), (f"s{i:03d}.json", json.dumps(value).encode())]
    root.mkdir()
    (root / "a.tar").write_bytes(tar_of(members))
    return root


@pytest.mark.slow
@pytest.mark.parametrize(("field", "place"), [("caption", None), ("text", None), ("alt", "json.alt")])
def test_captions_in_the_json_reach_every_reader(tmp_path: Path, field: str, place: str | None) -> None:
    from curation.dataset.loader import SampleStream
    from curation.dataset.random_subset import source_shards

    corpus = by_json(tmp_path / "in", field)
    extra = {"input": {"caption": place}} if place else {}
    recipe = write_recipe(
        tmp_path / "r.yaml", str(corpus), str(tmp_path / "out"), "", "", **{**PLAIN, "filters": []}, **extra
    )
    snapshot = curate(recipe).snapshot
    assert snapshot.document.samples.kept == 12
    expected = [f"a picture of thing {i}" for i in range(12)]
    assert [sample.caption for sample in snapshot.samples()] == expected
    assert [sample["txt"].decode() for sample in snapshot.webdataset()] == expected
    for shards in (snapshot.loader_shards(), source_shards(snapshot)):
        stream = SampleStream(shards, size=16, shuffle=0)
        assert [found.caption for found in stream] == expected and not stream.skipped


@pytest.mark.slow
def test_what_is_trained_on_looks_as_the_recipe_says(tmp_path: Path) -> None:
    from curation.dataset.loader import SampleStream
    from curation.dataset.random_subset import source_shards

    clear = cv2.imencode(".png", np.zeros((16, 16, 4), np.uint8))[1].tobytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tar").write_bytes(tar_of([("a.png", clear), ("a.txt", b"nothing to see")]))
    for background, level in (("white", 255), ("black", 0)):
        changes: dict[str, Any] = {**PLAIN, "filters": [], "limits": {"background": background}}
        snapshot = curate(
            write_recipe(tmp_path / "r.yaml", str(tmp_path / "in"), str(tmp_path / background), "", "", **changes)
        ).snapshot
        for shards in (snapshot.loader_shards(), source_shards(snapshot)):
            (example,) = SampleStream(shards, size=8, shuffle=0)
            assert set(example.pixels.ravel().tolist()) == {level}


def test_a_recipe_names_no_other_place(tmp_path: Path) -> None:
    from curation.core.errors import RecipeError
    from curation.recipes.curation_recipe import parse_recipe

    for said in ("caption", "json.", "csv.caption", "5"):
        with pytest.raises(RecipeError, match="caption"):
            parse_recipe(f"corpus: a\noutput: b\ninput: {{caption: {said}}}\n")
    plain, named = (parse_recipe(f"corpus: a\noutput: b\n{more}") for more in ("", "input: {caption: json.alt}\n"))
    assert plain.fingerprints != named.fingerprints
    assert parse_recipe("corpus: a\noutput: b\ninput:\n").fingerprints == plain.fingerprints


def test_quarantine_keeps_what_the_code_knew(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from jobs.commands.inspect import quarantine

    members = [
        ("a.png", picture(1, "png")), ("a.txt", b"sound"), ("b.png", picture(2, "png", side=200)), ("b.txt", b"large"),
        ("c.png", picture(3, "png")), ("c.txt", b"odd"), ("c.json", b'{"a": "\\ud800"}'),
    ]  # fmt: skip
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tar").write_bytes(tar_of(members))
    (tmp_path / "in" / "b.tar").write_bytes(tar_of(members)[:-1024])
    changes: dict[str, Any] = {**PLAIN, "filters": [], "limits": {"max_pixels": 10_000}}
    curate(write_recipe(tmp_path / "r.yaml", str(tmp_path / "in"), str(tmp_path / "out"), "", "", **changes))
    found = CliRunner().invoke(quarantine, ["ls", str(tmp_path / "out"), "--json"])
    rows = {(row["source_key"], row["key"]): row for row in json.loads(found.stdout)}
    assert rows["a.tar", "b"]["detail"] == "200 x 208 pixels, more than 10000"
    assert rows["a.tar", "c"]["detail"] == "half of a surrogate pair, which no UTF-8 can hold"
    assert rows["b.tar", "a"]["reason"] == "tar_truncated" and "stops short" in rows["b.tar", "a"]["detail"]
    assert "200 x 208 pixels, more than 10000" in CliRunner().invoke(quarantine, ["ls", str(tmp_path / "out")]).stdout


# --- the whole way ------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12) | st.sampled_from(
    ["a", "k" * 90, "\u202e\u200b", "é\0b", "..", "a/../b", "日本/x", "a\\b", "\x1b[31m"]
)
EXTENSIONS = st.sampled_from(["png", "txt", "json", "PNG", "jpg", "e" * 70, "caf\u00e9", "seg.png", "a b", "\n", ""])
SIMPLE = picture(1, "png", side=16)


def raw_tar(members: list[tuple[str, bytes]]) -> bytes:
    import tarfile

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    groups=st.lists(
        st.tuples(NAMES, st.lists(st.tuples(EXTENSIONS, jsons() | st.binary(max_size=20)), max_size=3)), max_size=6
    ),
    order=st.integers(0, 3),
)
def test_whatever_a_shard_holds_a_run_ends_and_verifies(
    tmp_path_factory: pytest.TempPathFactory, groups: list[tuple[str, list[tuple[str, bytes]]]], order: int
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    members = [("sound.png", SIMPLE), ("sound.txt", b"a sound sample")]
    for key, parts in groups:
        whole = [("png", SIMPLE), ("txt", b"some words"), *parts]
        members += [(f"{key}.{extension}", data) for extension, data in whole if "\0" not in f"{key}{extension}"]
    if order:  # as `tar cf x.tar folder` may have it
        members = random.Random(order).sample(members, len(members))
    (folder / "in").mkdir()
    (folder / "in" / "a.tar").write_bytes(raw_tar(members))
    recipe = write_recipe(
        folder / "r.yaml", str(folder / "in"), str(folder / "out"), "", "", **{**PLAIN, "filters": []}
    )
    snapshot = curate(recipe).snapshot
    found = list(snapshot.samples())
    assert len(found) == snapshot.document.samples.kept >= 1
    rows = snapshot.manifest.to_arrow().to_pylist()
    sound = [sample for sample in read_samples([raw_tar(members)], len(raw_tar(members))) if sample.reason is None]
    assert len(rows) >= len(sound) >= len(found)
    assert all(row["detail"] is None or row["detail"].isprintable() for row in rows)
    for sample in found:
        assert parse_again(sample.image) == sample.image
    assert problems(recipe) == []


def parse_again(image: bytes) -> bytes:
    data = tar_of([("k.png", image), ("k.txt", b"")])
    (sample,) = read_samples([data], len(data))
    return parse(sample).image


def test_text_of_a_field() -> None:
    fields = {"a": "é", "n": 3, "none": None, "votes": {"cat": 2.5}, "long": "x" * contents.MAX_FIELD_BYTES}
    assert contents.field_text(fields, "a") == '"é"' and contents.field_text(fields, "n") == "3"
    assert contents.field_text(fields, "votes") == '{"cat": 2.5}'
    assert [contents.field_text(fields, name) for name in ("none", "absent", "long")] == [None, None, None]
