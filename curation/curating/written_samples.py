"""The kept samples of one input unit as they appear in output shards: members by extension, each json annotated.

Everything but the jsons is computed for a batch at once, as NumPy arrays over members. Cost: 7 us a sample of three
members, of which 2 us are its json. Memory: the requests of `MemberReader` and `ASSEMBLED` bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.core.types import ShardRef
from curation.curating.annotation import annotate_all
from curation.curating.edited_samples import SampleEdits, StaleEdit
from curation.shards.member_reader import MemberBatch, MemberReader, SampleRanges
from curation.shards.tar_blocks import (
    BLOCK,
    Bytes,
    Integers,
    blocks_of,
    concatenated_ranges,
    copy_members,
    member_headers,
    padded,
)
from curation.storage.store import Store

ASSEMBLED = 2 << 20  # bytes that are assembled at once: they stay in a core's cache until they are written
LONG = 32 << 10  # bytes; of longer members only the last block is copied before it is written
UID = 32  # characters


class WrittenSamples:
    """The samples `kept` (rows of `index`, ascending) of one input shard.

    edits: by row, of the samples in which they replace a value. caption: the place of captions. source: the shard as
    the jsons name it, if not by its key in `corpus`.
    """

    def __init__(
        self,
        corpus: Store,
        shard: ShardRef,
        index: pa.Table,
        kept: Integers,
        edits: Mapping[int, SampleEdits] = MappingProxyType({}),
        caption: str = "",
        source: ShardRef | None = None,
    ) -> None:
        self.source, self.kept, self.edits, self.caption = source or shard, kept, edits, caption
        ranges = SampleRanges.of_index(index)
        self._ranges = ranges
        self._reader = MemberReader(corpus, shard, ranges)
        self._uids = index.column("uid").take(pa.array(kept)).to_pylist()
        self._stems = _characters(self._uids)
        self._order_members(index.column("members").combine_chunks().flatten().field("extension"))

    def _order_members(self, extensions: pa.Array) -> None:
        """Sort each sample's members by extension, with a member `json` where it has none."""
        members = self._ranges.members(self.kept)
        encoded = extensions.take(pa.array(members)).dictionary_encode()  # others may be too long for a shard
        names = encoded.dictionary.to_pylist()
        self.extensions = sorted({*names, "json"})
        ranks = np.array([self.extensions.index(name) for name in names], np.int64)
        counts = self._ranges.first[self.kept + 1] - self._ranges.first[self.kept]
        rows = np.repeat(np.arange(len(self.kept)), counts)
        which = ranks[encoded.indices.to_numpy()] if len(names) else np.zeros(0, np.int64)
        is_json = self.extensions.index("json")
        lacks = np.setdiff1d(np.arange(len(self.kept)), rows[which == is_json])
        rows = np.concatenate([rows, lacks])
        which = np.concatenate([which, np.full(len(lacks), is_json)])
        order = np.lexsort((which, rows))
        none = np.full(len(lacks), -1)
        self._which = which[order]
        self._member = np.concatenate([members, none])[order]  # -1: a json that the input lacks
        self._place = np.concatenate([np.arange(len(members)), 0 * none])[order]  # among the members of kept samples
        self._json = self._which == is_json
        self._edited = np.flatnonzero(np.isin(self.kept, list(self.edits)))
        self.stale: dict[int, list[StaleEdit]] = {}  # by row, of the samples that were written so far
        self.applied = dict(self.edits)  # by row, without the stale ones of the samples that were written so far
        self._made = self._json  # members whose bytes are not the input's
        if self.edits and "txt" in self.extensions and self.caption in ("", "txt"):
            captioned = [row for row, item in self.edits.items() if item.caption is not None]
            changed = np.isin(self.kept, captioned)[rows[order]]
            self._made = self._json | (changed & (self._which == self.extensions.index("txt")))
        self._first = np.searchsorted(rows[order], np.arange(len(self.kept) + 1))
        self._before = np.concatenate([[0], np.cumsum(counts)])  # members of the kept samples before each

    def pieces(self, start: int, stop: int) -> Iterator[tuple[list[memoryview], Integers]]:
        """Yield the tar bytes of samples `kept[start:stop]`, batch by batch, each as buffers to be joined.

        With each batch: its samples' first headers, as offsets in the batch, and its size, int64 [samples + 1]. Raises
        `StoreError`.
        """
        for batch in self._reader.read(self.kept[start:stop]):
            low, high = start + batch.start, start + batch.stop
            ends = np.cumsum(np.minimum(self._ranges.lengths[self.kept[low:high]], LONG))
            bounds = np.searchsorted(ends, np.arange(ASSEMBLED, int(ends[-1]), ASSEMBLED)) + 1
            for first, last in pairwise(sorted({0, *bounds.tolist(), len(ends)})):
                yield self._assembled(batch, low, low + first, low + last)

    def close(self) -> None:
        """Delete the local copy of a shard whose samples are interleaved."""
        self._reader.close()

    def _assembled(self, batch: MemberBatch, base: int, low: int, high: int) -> tuple[list[memoryview], Integers]:
        """Assemble the kept samples `low` to `high` of a batch, which begins with the kept sample `base`."""
        some = slice(self._first[low], self._first[high])
        which, member, is_made = self._which[some], self._member[some], self._made[some]
        positions = batch.positions[np.maximum(self._place[some] - self._before[base], 0)]
        lengths = self._ranges.member_lengths[member]
        texts = self._texts(batch.data, positions, lengths, some, low, high)
        lengths[is_made] = [len(text) for text in texts]
        uncopied = np.where(is_made | (lengths < LONG), 0, lengths // BLOCK)  # blocks that are taken from the request
        counts = blocks_of(lengths)
        copied = counts - uncopied
        at = np.cumsum(copied + 1) - copied
        target = np.empty((int(at[-1] + copied[-1]), BLOCK), np.uint8)
        source = np.frombuffer(batch.data, np.uint8, len(batch.data) // BLOCK * BLOCK)
        data, skipped = ~is_made, uncopied * BLOCK
        copy_members(target.reshape(-1), at[data], source, (positions + skipped)[data], (lengths - skipped)[data])
        samples = np.repeat(np.arange(low, high), np.diff(self._first[low : high + 1]))
        target[at - 1] = member_headers(self._stems[samples], self.extensions, which, lengths)
        target[concatenated_ranges(at[is_made], copied[is_made])] = padded(texts)
        long = uncopied > 0
        found = _inserted(target, at[long], memoryview(batch.data), positions[long], skipped[long])
        starts = np.concatenate([[0], np.cumsum(counts + 1)]) * BLOCK
        return found, starts[self._first[low : high + 1] - some.start]

    def _texts(
        self, data: bytes, positions: Integers, lengths: Integers, some: slice, low: int, high: int
    ) -> list[bytes]:
        """The bytes of the members that are not copied from the input, in order."""
        is_json, is_made = self._json[some], self._made[some]
        lacks = self._member[some][is_json] < 0
        jsons = self._annotated(data, positions[is_json], lengths[is_json], lacks, low, high)
        if not self.edits:
            return jsons
        samples = np.repeat(np.arange(low, high), np.diff(self._first[low : high + 1]))
        captions = np.flatnonzero(is_made & ~is_json)  # files of replaced captions
        old = {int(samples[at]): data[positions[at] : positions[at] + lengths[at]] for at in captions.tolist()}
        first, last = np.searchsorted(self._edited, [low, high])
        for sample in self._edited[first:last].tolist():
            row = int(self.kept[sample])
            edits, stale = self.edits[row].divided(jsons[sample - low], self.caption, old.get(sample))
            if stale:
                self.stale[row], self.applied[row] = stale, edits
            if edits.edits:
                jsons[sample - low] = edits.apply(jsons[sample - low], self.caption, old.get(sample))
        places = np.cumsum(is_made)[captions] - 1  # among the members that are not copied, ascending
        for place, sample in zip(places.tolist(), samples[captions].tolist(), strict=True):
            caption = self.applied[int(self.kept[sample])].caption
            jsons.insert(place, old[sample] if caption is None else caption.encode())
        return jsons

    def _annotated(
        self, data: bytes, positions: Integers, lengths: Integers, lacks: npt.NDArray[np.bool_], low: int, high: int
    ) -> list[bytes]:
        """The json of each sample, with its uid and source."""
        places = zip(positions.tolist(), lengths.tolist(), lacks.tolist(), strict=True)
        originals = [b"{}" if missing else data[at : at + length] for at, length, missing in places]
        rows = self.kept[low:high]
        offsets, sizes = self._ranges.offsets[rows].tolist(), self._ranges.lengths[rows].tolist()
        return annotate_all(originals, self._uids[low:high], self.source, offsets, sizes)


def _inserted(
    target: Bytes, at: Integers, source: memoryview, positions: Integers, lengths: Integers
) -> list[memoryview]:
    """The blocks of `target`, with slices of `source` before the blocks `at`."""
    copied, begin, found = memoryview(target.reshape(-1).data), 0, []
    for block, position, length in zip(at.tolist(), positions.tolist(), lengths.tolist(), strict=True):
        found += [copied[begin : block * BLOCK], source[position : position + length]]
        begin = block * BLOCK
    return [*found, copied[begin:]]


def _characters(uids: Sequence[str]) -> Bytes:
    """The characters of uids as uint8 [N, 32]. Raises `ValueError` for other strings."""
    if any(len(uid) != UID for uid in uids):
        raise ValueError("a uid has another length than 32")
    return np.frombuffer("".join(uids).encode(), np.uint8).reshape(-1, UID)
