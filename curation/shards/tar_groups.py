"""Grouping of a shard's members into samples: the members of each key, and the reason if the sample is unusable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

from curation.core.errors import TarError
from curation.core.types import IMAGE_EXTENSIONS
from curation.shards.tar import IRREGULAR, REGULAR, Stream, members

REASONS = {
    # reasons of the shard, raised as TarError
    "tar_empty": "the object has no bytes, or is an archive without members",
    "tar_not_a_tar": "the first block is not a tar header (an error page, a compressed file)",
    "tar_bad_header": "a header's checksum, magic, number or pax record is wrong",
    "tar_truncated": "the archive ends inside a member, without its two zero blocks, or before its listed size",
    "tar_trailing_data": "data follows the end of the archive (concatenated tars)",
    "tar_header_too_large": "a pax or long-name header of more than 1 MiB",
    "tar_not_sorted": "sort it: tar --sort=name; a sample's members are not adjacent, and there are more than 262,144",
    "tar_unsupported": "an unsupported kind of member: sparse, multi-volume, a link with data",
    # reasons of the sample, in TarSample.reason; if several apply, the first one in this order
    "unsafe_name": "absolute, empty, too long, not UTF-8, or with `..`, a backslash or control characters",
    "not_regular_file": "a member is a link, a device or a pipe",
    "no_extension": "a member without a key or an extension, which belongs to no sample",
    "sample_too_large": "more bytes or members under one key than the limits allow; its data is not kept",
    "key_repeated": "this key also occurs earlier in the shard, not adjacent, with one of these extensions",
    "not_adjacent": "sort it: tar --sort=name; other members of this sample are elsewhere in a large shard",
    "member_repeated": "the same extension twice under one key",
    "several_images": "two image extensions under one key",
    "missing_image": "no member with an image extension",
}

MAX_SAMPLE = 1 << 30  # bytes under one key; while the reader joins a member's pieces it holds them twice
MAX_MEMBERS = 1000  # members under one key
MAX_NAME = 4096  # bytes, as PATH_MAX
AHEAD_BYTES, AHEAD_GROUPS = 8 << 20, 1024  # read before the reader decides how to read the shard
SORT_IT = "sort it: tar --sort=name"

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_IMAGES = frozenset(IMAGE_EXTENSIONS)


class MemberRange(NamedTuple):
    """One member: `length` bytes of data at byte `offset` of the tar."""

    extension: str
    offset: int
    length: int
    data: bytes


class TarSample(NamedTuple):
    """The members of one key, in bytes `[start, stop)` of the tar: first header to the last member's padding.

    In a shard that is read by its index, that range may contain members of other samples. A stray member without an
    extension is a sample of its own, even inside another sample's range.
    """

    key: str
    parts: tuple[MemberRange, ...]
    start: int
    stop: int
    reason: str | None
    detail: str = ""  # additional information about the reason, stored in the manifest


class Groups:
    """Iterates over groups of consecutive members with one key; a member without a key is a group of its own."""

    def __init__(self, stream: Stream, max_sample: int) -> None:
        self.stream, self.max_sample = stream, max_sample
        self.with_data = True  # False: only offsets and lengths
        self.done = False
        self.members = 0
        self._found = self._walk()

    def __iter__(self) -> Iterator[MemberGroup]:
        return self._found

    def ahead(self) -> tuple[list[MemberGroup], TarError | None]:
        """Return the first groups, which decide how the shard is read, and the error that ended them."""
        found: list[MemberGroup] = []
        total = 0
        try:
            for group in self._found:
                found.append(group)
                total += group.bytes
                if total >= AHEAD_BYTES or len(found) >= AHEAD_GROUPS:
                    return found, None
        except TarError as error:
            return found, error
        self.done = True
        return found, None

    def _walk(self) -> Iterator[MemberGroup]:
        group: MemberGroup | None = None
        try:
            for raw, kind, start, offset, length, stop in members(self.stream):
                name, safe = decode_name(raw)
                if safe and name.startswith("__") and _is_meta(name):
                    continue
                self.members += 1
                dot = name.find(".", name.rfind("/") + 1)
                if dot < 1 or name[dot - 1] == "/":
                    stray = MemberGroup(None, name, start, stop)
                    stray.flaws.add(
                        "unsafe_name" if not safe else "no_extension" if kind == REGULAR else "not_regular_file"
                    )
                    yield stray
                    continue
                key = name[:dot]
                if group is None or key != group.key:
                    if group is not None:
                        yield group
                    group = MemberGroup(key, key, start, stop)
                if not safe:
                    group.flaws.add("unsafe_name")
                if kind == IRREGULAR:
                    group.flaws.add("not_regular_file")
                group.stop = stop
                room = group.has_room(length, self.max_sample)
                data = self.stream.take(length) if room and self.with_data else b""
                group.add(MemberRange(name[dot + 1 :].lower(), offset, length, data), room=room)
        except TarError:
            if group is not None:
                yield group
            raise
        if group is not None:
            yield group


class MemberGroup:
    """A sample under construction. Without a key: a member that belongs to no sample."""

    __slots__ = ("bytes", "flaws", "key", "name", "parts", "start", "stop")

    def __init__(self, key: str | None, name: str, start: int, stop: int) -> None:
        self.key, self.name, self.start, self.stop, self.bytes = key, name, start, stop, 0
        self.parts: list[MemberRange] = []
        self.flaws: set[str] = set()

    @property
    def extensions(self) -> set[str]:
        """The extensions of the members."""
        return {part.extension for part in self.parts}

    def has_room(self, length: int, max_sample: int) -> bool:
        """Whether another member of `length` bytes fits the limits."""
        return self.bytes + length <= max_sample and len(self.parts) < MAX_MEMBERS

    def add(self, part: MemberRange, *, room: bool) -> None:
        """Add a member. `room`: whether it fits the limits; a sample beyond them keeps no data."""
        self.bytes += part.length
        if room:
            self.parts.append(part)
        elif "sample_too_large" not in self.flaws:
            self.flaws.add("sample_too_large")
            self.parts = [part._replace(data=b"") for part in self.parts]

    def join(self, other: MemberGroup, max_sample: int) -> None:
        """Add a later group with the same key."""
        self.stop = other.stop
        self.flaws |= other.flaws
        for part in other.parts:
            self.add(part, room=self.has_room(part.length, max_sample))

    def close(self, flaw: str | None = None) -> TarSample:
        """Return the sample, with a reason if it is unusable. `flaw`: a reason that the caller found."""
        flaws = self.flaws | ({flaw} if flaw else set())
        if self.key is not None:
            extensions = self.extensions
            images = len(extensions & _IMAGES)
            if len(extensions) != len(self.parts):
                flaws.add("member_repeated")
            if images != 1:
                flaws.add("several_images" if images else "missing_image")
        reason = next(filter(flaws.__contains__, REASONS)) if flaws else None
        detail = SORT_IT if reason == "not_adjacent" else ""
        return TarSample(self.name, tuple(self.parts), self.start, self.stop, reason, detail)


class SeenExtensions:
    """The extensions of each key at its first occurrence, to detect repeated keys.

    Stores a 16-byte hash per key, and one set for all keys with equal extensions: ~130 bytes of memory a key, 1.3 MB
    for 10,000 samples.
    """

    def __init__(self) -> None:
        self._keys: dict[bytes, frozenset[str]] = {}
        self._sets: dict[frozenset[str], frozenset[str]] = {}

    def flaw(self, group: MemberGroup) -> str | None:
        """Return the reason for a group whose key occurred earlier, not adjacent to it; None for a first occurrence."""
        if group.key is None:
            return None
        digest, own = blake2b(group.key.encode(), digest_size=16).digest(), frozenset(group.extensions)
        if (before := self._keys.get(digest)) is None:
            self._keys[digest] = self._sets.setdefault(own, own)
            return None
        return "key_repeated" if before & own else "not_adjacent"


def is_interleaved(ahead: list[MemberGroup], *, whole: bool) -> bool:
    """Whether samples seem to be interleaved, from the first groups.

    They are if a key returns with other extensions or, unless `ahead` is the `whole` shard, if most groups have no
    image or no member that could hold a caption.
    """
    extensions: dict[str, set[str]] = {}
    lacking = 0
    for group in ahead:
        if group.key is None:
            continue
        new = group.extensions
        before = extensions.setdefault(group.key, set())
        if before and not before & new:
            return True
        before |= new
        lacking += not (new & _IMAGES and new & {"txt", "json"})
    return not whole and 2 * lacking > len(ahead)


def decode_name(raw: bytes) -> tuple[str, bool]:
    """Decode a name; return it and whether it is safe. An unsafe name is escaped and cut, for logs and the manifest."""
    try:
        name = raw[: MAX_NAME + 1].decode()
        safe = not (
            not name
            or len(raw) > MAX_NAME
            or name[0] == "/"
            or "\\" in name
            or (".." in name and ".." in name.split("/"))
            or (not name.isprintable() and _CONTROL.search(name))  # isprintable is fast, but varies between Pythons
        )
    except UnicodeDecodeError:
        name, safe = raw[:MAX_NAME].decode("utf-8", "backslashreplace"), False
    return (name, True) if safe else (_CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", name), False)


def _is_meta(name: str) -> bool:
    first, slash, _ = name.partition("/")
    return first.endswith("__") and (len(first) >= 4 or not slash)
