"""WebDataset shards: a strict streaming reader of samples and a deterministic writer.

The reader walks headers over byte blocks as they arrive and copies members out; it extracts nothing and follows no
link. It holds the first 8 MiB twice, by which it decides how the shard is read, then one sample, one block, and 16
bytes for each key seen (~130 bytes of memory: 1.3 MB for 10,000 samples). A shard whose samples' members stand apart is
written to local disk as it comes, if it has at most 1 GiB and 262,144 members.
Samples come before the end of the archive is known: a `TarError`, however late, condemns the whole shard.

One flipped bit in the payload of a pax or long-name header, which no checksum covers, can misname a member. No member
is ever lost by it: each comes out in some sample, and a sample that lost its image or its caption says so.
Cost, one core, members of 100 bytes, data copied: 105 k members/s, 60 k beside busy neighbours (tarfile: 40 k and 25 k
for the headers alone).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import BinaryIO

from curation.core.errors import TarError
from curation.shards.tar_groups import MAX_MEMBERS as MAX_MEMBERS
from curation.shards.tar_groups import MAX_SAMPLE, SORT_IT, Groups, MemberGroup, SeenExtensions, decode_name, is_apart
from curation.shards.tar_groups import REASONS as REASONS
from curation.shards.tar_groups import TarSample as TarSample
from curation.shards.tar_headers import Stream
from curation.shards.tar_spool import Spool, Tee

END_BLOCKS = 1024  # bytes of zeros that end an archive
MAX_APART = 1 << 30  # bytes of a shard whose members stand in any order: on local disk while it is read
MAX_APART_MEMBERS = 1 << 18  # of such a shard, whose table takes up to 200 MB of memory


def read_samples(
    blocks: Iterable[bytes], size: int, *, max_sample: int = MAX_SAMPLE, apart: bool = False
) -> Generator[TarSample]:
    """The samples of the tar whose `size` bytes come as `blocks`, in the order of their first members.

    Key: the path up to the first dot of its last component; extension: the rest, in lower case. Directories and
    `__meta__` files are skipped. Raises TarError, possibly after the last sample, if the archive is not whole.

    Members of one key belong together when they stand next to each other. What `tar cf x.tar folder` makes has them in
    any order: where the first 8 MiB (or 1,024 groups) look so, or `apart` says so, the whole shard is read by its
    index, and all groups of a key are one sample unless an extension would come twice. How a shard is read depends on
    its bytes alone, so every reader finds the same samples.
    """
    tee = Tee(blocks)
    stream = Stream(tee, size)
    groups = Groups(stream, max_sample)
    ahead, error = groups.ahead()
    if size <= MAX_APART and (apart or is_apart(ahead, whole=groups.done)):
        with tee.spool() as spool:
            yield from _by_index(ahead, groups, spool, max_sample, error)
        return
    tee.forget()
    seen = SeenExtensions()
    for group in ahead:
        yield group.close(seen.flaw(group))
    del ahead
    if error is not None:
        raise error
    for group in groups:
        yield group.close(seen.flaw(group))


def _by_index(
    ahead: list[MemberGroup], groups: Groups, spool: Spool, max_sample: int, error: TarError | None
) -> Iterator[TarSample]:
    """The samples of a shard whose members stand in any order: all headers first, then sample by sample."""
    groups.with_data = False
    found: list[tuple[MemberGroup, str | None]] = []
    by_key: dict[str, MemberGroup] = {}

    def take(group: MemberGroup) -> None:
        group.parts = [part._replace(data=b"") for part in group.parts]
        first = None if group.key is None else by_key.setdefault(group.key, group)
        if first is None or first is group:
            found.append((group, None))
        elif first.extensions & group.extensions:
            found.append((group, "key_repeated"))
        else:
            first.join(group, max_sample)

    for group in ahead:
        take(group)
    try:
        for group in groups if error is None else ():
            take(group)
            if groups.members > MAX_APART_MEMBERS:
                text = f"more than {MAX_APART_MEMBERS} members, and those of a sample are not adjacent: {SORT_IT}"
                error = TarError("tar_not_sorted", text, offset=group.start)
                break
    except TarError as ended:
        error = ended
    found.sort(key=lambda pair: pair[0].start)
    for group, flaw in found:
        group.parts = [part for part in group.parts if part.offset + part.length <= spool.size]  # others never came
        if "sample_too_large" not in group.flaws:
            group.parts = [part._replace(data=spool.read(part.offset, part.length)) for part in group.parts]
        yield group.close(flaw)
        group.parts = []
    if error is not None:
        raise error


class TarWriter:
    """Writes a ustar archive whose bytes depend on the names and data added, and on nothing else.

    Mode 0644, mtime 0, owner 0, no user or group names, two zero blocks at the end and no further padding.
    Names are ASCII of at most 100 bytes, safe by the reader's rules; others raise ValueError. ~6 us a member.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._offset = 0
        self._closed = False

    def add(self, name: str, data: bytes) -> int:
        """Append a member; the offset at which its data stands."""
        if self._closed:
            raise ValueError("the archive is closed")
        encoded = name.encode()
        if not name.isascii() or len(encoded) > 100 or name.endswith("/") or not decode_name(encoded)[1]:
            raise ValueError(f"not a name for a shard's member: {name!r} (ASCII, relative, at most 100 bytes)")
        if len(data) >= 1 << 33:
            raise ValueError(f"{name}: {len(data)} bytes do not fit a ustar header (8 GiB)")
        before = encoded.ljust(100, b"\0") + b"0000644\x000000000\x000000000\0%011o\x0000000000000\0" % len(data)
        after = b"0" + bytes(100) + b"ustar\x0000" + bytes(247)
        checksum = sum(before) + sum(after) + 8 * 32  # the checksum's own field counts as spaces
        self._file.write(b"%b%06o\0 %b" % (before, checksum, after))
        self._file.write(data)
        self._file.write(bytes(-len(data) % 512))
        offset = self._offset + 512
        self._offset = offset + (len(data) + 511 & -512)
        return offset

    def close(self) -> int:
        """Write the end blocks; the size of the archive. The file stays open: it is the caller's."""
        if not self._closed:
            self._file.write(bytes(END_BLOCKS))
            self._offset += END_BLOCKS
            self._closed = True
        return self._offset
