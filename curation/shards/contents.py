"""The contents of a sample: image bytes, caption, json.

Everything that a later step could fail on is refused here, once: every accepted json can be annotated, written and read
again. The caption is the `.txt` member; without one, the json's `caption`, then its `text`. A recipe's
`input: {caption: ...}` names one place instead: `txt` or `json.<field>`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from curation.core.errors import ImageError
from curation.core.types import IMAGE_EXTENSIONS
from curation.shards.tar_samples import TarSample

MAX_CAPTION_BYTES = 1 << 20
MAX_JSON_BYTES = 16 << 20  # parsing takes about 10 times as much memory
MAX_JSON_DEPTH = 100  # Python's parser fails near 1,000, depending on the depth of its caller's stack
MAX_EXTENSION = 64  # characters
MAX_FIELD_BYTES = 1 << 16  # of the JSON text of a field that a scorer reads
FIELD = "json."  # a name with this prefix is a field of the json
CAPTION_FIELDS = ("caption", "text")  # of the json, if there is no .txt
CAPTION_PLACE = r"txt|json\..+"  # the pattern of `input: {caption: ...}`

REASONS = {
    "missing_text": "no caption: neither a .txt member nor `caption` or `text` in the json, or not where `input` says",
    "caption_not_utf8": "the caption is not UTF-8",
    "caption_not_text": "the json's caption is not a string",
    "caption_too_long": f"the caption has more than {MAX_CAPTION_BYTES} bytes",
    "bad_json": f"the json is not an object, is nested deeper than {MAX_JSON_DEPTH}, or has more than 16 MiB, half "
    "of a surrogate pair, or an integer of more than 4,300 digits",
}

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class ParsedSample(NamedTuple):
    """The image bytes, the caption and the json of a sample; `metadata` is empty without a json."""

    image: bytes
    caption: str
    metadata: dict[str, Any]


def parse(sample: TarSample, place: str = "") -> ParsedSample:
    """Parse the members of a well-formed sample. Raises `ImageError` with the reason that quarantines it.

    `place` is the place of the caption as a recipe's `input` names it; "" for the default.
    """
    parts = {part.extension: part.data for part in sample.parts}
    for extension in parts:
        if len(extension) > MAX_EXTENSION or not extension.isascii():
            text = f"an extension of more than {MAX_EXTENSION} characters, or beyond ASCII"
            raise ImageError("unsafe_name", text)  # the output's member is named <uid>.<extension>
    image = next((data for extension, data in parts.items() if extension in IMAGE_EXTENSIONS), b"")
    fields = metadata(parts["json"]) if "json" in parts else {}
    return ParsedSample(image, caption(parts, fields, place), fields)


def caption(parts: Mapping[str, bytes], metadata: Mapping[str, Any], place: str = "") -> str:
    """Return the caption from the members' bytes (extension -> bytes) or the json; `place`: see `parse`.

    Raises `ImageError` if there is no usable caption.
    """
    if place in ("", "txt") and "txt" in parts:
        return _text(parts["txt"])
    fields = CAPTION_FIELDS if place == "" else () if place == "txt" else (place.removeprefix("json."),)
    for field in fields:
        value = metadata.get(field)
        if value is None:
            continue
        if not isinstance(value, str):
            raise ImageError("caption_not_text", f"`{field}` of the json is {type(value).__name__}, not a string")
        if len(value.encode()) > MAX_CAPTION_BYTES:
            raise ImageError("caption_too_long", f"{len(value.encode())} bytes, more than {MAX_CAPTION_BYTES}")
        return value
    where = [f"`{field}` in the json" for field in fields]
    raise ImageError("missing_text", f"no {' or '.join(where if place else ['.txt member', *where])}")


def metadata(data: bytes) -> dict[str, Any]:
    """Parse the sample's json. Raises `ImageError("bad_json")` for one that could not be written again."""
    if len(data) > MAX_JSON_BYTES:
        raise ImageError("bad_json", f"{len(data)} bytes, more than {MAX_JSON_BYTES}")
    try:
        value = json.loads(data.decode())
    except RecursionError:
        raise ImageError("bad_json", f"nested deeper than {MAX_JSON_DEPTH}") from None
    except ValueError as error:
        raise ImageError("bad_json", str(error)) from None
    if not isinstance(value, dict):
        raise ImageError("bad_json", f"{type(value).__name__}, not an object")
    if data.count(b"{") + data.count(b"[") > MAX_JSON_DEPTH and depth(value) > MAX_JSON_DEPTH:
        raise ImageError("bad_json", f"nested deeper than {MAX_JSON_DEPTH}")
    if _SURROGATE.search(data):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ImageError("bad_json", "half of a surrogate pair, which no UTF-8 can hold") from None
    return value


def field_text(fields: Mapping[str, Any], name: str) -> str | None:
    """Return a field of the json as JSON text; None where it is missing, null, or longer than 64 KiB as text."""
    value = fields.get(name)
    text = None if value is None else json.dumps(value, ensure_ascii=False)
    return None if text is None or len(text.encode()) > MAX_FIELD_BYTES else text


def depth(value: Any) -> int:
    """Return the nesting depth of lists and objects: 0 for a plain value, 1 for `{}`."""
    level, found = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        found += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return found


def written(parts: Mapping[str, bytes], place: str = "") -> tuple[dict[str, Any], str]:
    """Return (json, caption) of a sample that this library wrote, without repeating the checks of `parse`."""
    fields = json.loads(parts["json"])
    return fields, caption(parts, fields, place)


def detail_of(text: str, most: int = 200) -> str:
    """Format a message for the manifest's `detail` column: one line of at most `most` characters.

    Control characters are escaped, and addresses of Python objects, which differ between processes, are removed.
    Stored details must not change; to show text on a terminal, use `printable.printable`.
    """
    text = _ADDRESS.sub("", text)
    line = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text[:most]
    )
    return line[:most].encode(errors="backslashreplace").decode()


def _text(data: bytes) -> str:
    if len(data) > MAX_CAPTION_BYTES:
        raise ImageError("caption_too_long", f"{len(data)} bytes, more than {MAX_CAPTION_BYTES}")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ImageError("caption_not_utf8", f"byte {error.start} is {data[error.start]:#04x}") from None
