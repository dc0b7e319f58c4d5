"""Snapshots: immutable versions of a curated dataset, as consumers open them.

    import curation as cu
    snapshot = cu.open("s3://curated/everyday-objects")      # the latest; "...@42" is snapshot 42
    snapshot.urls, snapshot.samples(), snapshot.webdataset(), snapshot.manifest, snapshot.torch()

Opening costs two small GETs and three HEADs (for `URL@42` one GET); everything else is read on first use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.core.errors import LedgerError, UserError
from curation.core.origins import PROVENANCE, REAL
from curation.core.types import IMAGE_EXTENSIONS, Sample, ShardRef, Source
from curation.dataset import manifest
from curation.ledger import manifest_schema
from curation.ledger.documents import SnapshotDocument, repair
from curation.ledger.ledger import Ledger
from curation.ledger.named_objects import read_named
from curation.ledger.score_values import TYPES
from curation.shards.contents import written
from curation.shards.tar_samples import read_samples
from curation.storage import tables
from curation.storage.parquet import from_parquet
from curation.storage.store import Store, StoreOptions, open_store

if TYPE_CHECKING:
    from curation.dataset.loader import ListedShard, SampleStream
    from curation.dataset.sample_weights import SampleWeights
    from curation.shards.images import DecodeLimits
    from curation.shards.webdataset_io import SnapshotDataset

SHARDS_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("samples", pa.int64()),
        ("unit", pa.string()),
    ]
)
PARTS_SCHEMA = pa.schema(
    [("key", pa.string()), ("sha256", pa.string()), ("bytes", pa.int64()), ("rows", pa.int64()), ("unit", pa.string())]
)

_NONE: Mapping[str, pa.DataType] = {}
QUERY_MEMORY = "80%"  # of this machine's memory, DuckDB's default
_VERSION = re.compile(r"(.+)@(\d+|latest)\Z")


def open(url: str, *, options: StoreOptions | None = None) -> Snapshot:
    """Open `URL` (the latest snapshot) or `URL@N`.

    Raises `NoSnapshotError` when there is no such snapshot, `LedgerError` for a damaged document, and `StoreError` when
    the store can't be read.
    """
    root, number = split_version(url)
    return open_snapshot(root, number, options)


def split_version(url: str) -> tuple[str, int | None]:
    """Split `URL@N` into the root and the number; the number is None for `URL` and `URL@latest`."""
    match = _VERSION.match(url)
    root, version = (match[1], match[2]) if match else (url, "latest")
    return root, None if version == "latest" else int(version)


def open_snapshot(root: str, number: int | None = None, options: StoreOptions | None = None) -> Snapshot:
    """Open snapshot `number` of the dataset at `root`, or the latest. Raises as `open` does."""
    store = open_store(root, options)
    return Snapshot(store, Ledger(store).snapshot(number))


@dataclass(frozen=True)
class Snapshot:
    """An immutable version of a dataset: shards, manifest, recipe, parent. `document` is its committed JSON."""

    store: Store
    document: SnapshotDocument

    @property
    def number(self) -> int:
        """Number of the snapshot, from 1."""
        return self.document.snapshot

    @property
    def caption(self) -> str:
        """Location of captions in a sample, from `input` of the recipe; "" for the defaults (see `contents`)."""
        return str((self.document.recipe.get("input") or {}).get("caption") or "")

    @cached_property
    def limits(self) -> DecodeLimits:
        """Decode limits of the snapshot's recipe."""
        from curation.recipes.recipe_limits import limits_of

        return limits_of(self.document.recipe)

    @cached_property
    def shards(self) -> pa.Table:
        """Output shards, one row each: key, sha256, bytes, samples, unit."""
        return self._index("shards")

    @cached_property
    def parts(self) -> pa.Table:
        """Parquet objects of the manifest in source order, one row each: key, sha256, bytes, rows, unit."""
        return self._index("manifest")

    def shard_keys(self) -> list[str]:
        """Keys of the output shards, in order."""
        return self.shards.column("key").to_pylist()  # type: ignore[no-any-return]

    @property
    def urls(self) -> list[str]:
        """Locations of the shards: s3:// (gs://, az://) URLs, or plain paths for a local dataset."""
        return [plain_location(self.store.location(key)) for key in self.shard_keys()]

    @property
    def manifest_urls(self) -> list[str]:
        """Locations of the manifest's Parquet objects, as for `urls`."""
        return [plain_location(self.store.location(key)) for key in self.parts.column("key").to_pylist()]

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Largest groups of duplicates by filter: filter, samples, stays (uid of the kept sample), goes (some uids).

        Empty for a snapshot of an earlier version.
        """
        return [dict(group) for group in self.document.get("groups", [])]

    def samples(self) -> Iterator[Sample]:
        """Yield every kept sample with its bytes, in order. One shard is streamed at a time."""
        for shard in self.shards.to_pylist():
            yield from self.read_shard(ShardRef(shard["key"], shard["bytes"], ""))

    def read_shard(self, shard: ShardRef) -> Iterator[Sample]:
        """Yield the samples of one output shard."""
        for found in read_samples(self.store.blocks(shard.key, shard.size, shard.etag or None), shard.size):
            parts = {part.extension: part.data for part in found.parts}
            extension = next(e for e in parts if e in IMAGE_EXTENSIONS)
            value, caption = written(parts, self.caption)
            origin = value[PROVENANCE]
            yield Sample(
                uid=origin["uid"],
                key=found.key,
                image=parts[extension],
                extension=extension,
                caption=caption,
                metadata=value,
                source=Source(**origin["source"]),
            )

    def reader(self, columns: Sequence[str] | None = None, where: Sequence[str] | None = None) -> pa.RecordBatchReader:
        """Stream the manifest as Arrow batches for DuckDB or PyArrow, with one part in memory at a time.

        `columns`: names of the columns to read; all by default.
        """
        fields = self._manifest_schema()
        chosen = fields if columns is None else pa.schema([fields.field(name) for name in columns])
        return pa.RecordBatchReader.from_batches(chosen, self._batches(chosen))

    def _batches(self, chosen: pa.Schema) -> Iterator[pa.RecordBatch]:
        for part in self.parts.to_pylist():
            yield from self.read_part(part, chosen.names).cast(chosen).to_batches()

    def read_part(self, part: Mapping[str, Any], columns: Sequence[str] | None = None) -> pa.Table:
        """Read one Parquet object of the manifest, given its row in `parts`.

        Raises `LedgerError` when the object is missing or damaged, or a uid is invalid.
        """
        table = self.table(part, columns, manifest_schema.LATER)
        if "origin" in table.column_names:
            place, origin = table.column_names.index("origin"), table.column("origin")
            table = table.set_column(place, "origin", pc.fill_null(origin, REAL))
        if "uid" in table.column_names:
            manifest.check_uids(table, self.store.location(part["key"]))
        return table

    def table(
        self, item: Mapping[str, Any], columns: Sequence[str] | None = None, later: Mapping[str, pa.DataType] = _NONE
    ) -> pa.Table:
        """Read a Parquet object that the snapshot references by key and sha256.

        `later`: columns that earlier versions did not write, with their types; they are null where missing. Raises
        `LedgerError` when the object is missing or damaged.
        """
        fix = repair(f"{self.store.url}@{self.number}")
        data = read_named(self.store, item["key"], item["sha256"], fix)
        try:
            return from_parquet(data, columns, later)
        except (pa.ArrowException, KeyError) as error:
            what = str(error).splitlines()[0]
            raise LedgerError(
                f"{self.store.location(item['key'])} is not the expected table: {what}", fix=fix
            ) from None

    def part_of(self, key: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the manifest's Parquet object that contains the samples of the output shard `key`, among others.

        Raises `LedgerError` when `key` is not a shard of the snapshot.
        """
        if key not in self._parts_by_shard:
            raise LedgerError(f"{key} is not a shard of {self.store.url}@{self.number}")
        return self.read_part(self._parts_by_shard[key], columns)

    @cached_property
    def _parts_by_shard(self) -> dict[str, dict[str, Any]]:
        parts = {row["unit"]: row for row in self.parts.to_pylist()}
        keys, units = (self.shards.column(name).to_pylist() for name in ("key", "unit"))
        return {key: parts[unit] for key, unit in zip(keys, units, strict=True)}

    @property
    def manifest(self) -> Manifest:
        """The manifest, for Arrow (`.to_arrow()`) and for SQL (`.query("select ... from manifest")`)."""
        return Manifest(self)

    def weights(self) -> SampleWeights:
        """Read the kept samples' weights from three columns of the manifest; those other than 1 are in memory."""
        from curation.dataset.sample_weights import SampleWeights

        own: dict[str, float] = {}
        for batch in self.reader(["uid", "decision", "weight"]):
            kept = pc.equal(batch.column("decision"), "kept")
            some = batch.filter(pc.and_(kept, pc.not_equal(batch.column("weight"), 1.0)))
            own.update(zip(some.column("uid").to_pylist(), some.column("weight").to_pylist(), strict=True))
        return SampleWeights(own, self.document.samples.kept)

    def webdataset(self, *, shuffle: bool = False, seed: int = 0) -> SnapshotDataset:
        """Open the shards as a `webdataset.WebDataset`; chain `.decode("pil").to_tuple("jpg;png;webp", "txt")`.

        It reads all stores that this library reads, without an external command. `shuffle`: whether to shuffle shards
        and samples, by `seed`.
        """
        from curation.shards.webdataset_io import SnapshotDataset

        return SnapshotDataset(self.store, self.shard_keys(), self.caption, shuffle=shuffle, seed=seed)

    def loader_shards(self) -> list[ListedShard]:
        """List the output shards for `loader.SampleStream`."""
        from curation.dataset.loader import ListedShard

        rows = self.shards.to_pylist()
        refs = [(ShardRef(row["key"], row["bytes"], ""), row["samples"]) for row in rows]
        return [ListedShard(self.store, ref, samples, self.caption, self.limits) for ref, samples in refs]

    def torch(self, *, size: int = 224, weighted: bool = False, **options: Any) -> SampleStream:
        """Open a `torch.utils.data.IterableDataset` of decoded samples that splits itself over ranks and workers.

        No sample is lost or repeated, and shares differ by at most one sample. With `weighted`, each sample appears in
        proportion to its weight in the manifest over the epochs (call `set_epoch`; a sample with a low weight is not in
        every epoch), and shares differ at random. `size`: side of the images in pixels; `options` are those of
        `SampleStream`.
        """
        from curation.dataset.loader import SampleStream
        from curation.dataset.sample_weights import ALIKE

        return SampleStream(self.loader_shards(), size=size, weights=self.weights() if weighted else ALIKE, **options)

    def _index(self, name: str) -> pa.Table:
        schema = SHARDS_SCHEMA if name == "shards" else PARTS_SCHEMA
        return self.table(self.document[name], schema.names).cast(schema)

    def _manifest_schema(self) -> pa.Schema:
        kinds = self.document.score_types
        if unknown := {kinds[name] for name in self.document.scores if name in kinds} - TYPES.keys():
            text = f"{self.store.url}@{self.number} has scores of the unknown type {min(unknown)}"
            raise LedgerError(text, fix="read it with the version of Tutelage that wrote it")
        return manifest_schema.schema({name: TYPES[kinds.get(name, "float")] for name in self.document.scores})


class Manifest:
    """A snapshot's manifest as a table, read on demand."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def to_arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the whole manifest into memory, about 300 bytes a sample. For larger ones use `query` or `reader`."""
        return self._snapshot.reader(columns).read_all()

    def quarantined(self, reason: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Read up to `limit` quarantined samples, of one reason or of all: uid, key, reason, detail and source."""
        columns = [
            "uid",
            "key",
            "decision",
            "reason",
            "detail",
            "source_key",
            "source_etag",
            "source_offset",
            "source_length",
        ]
        rows: list[dict[str, Any]] = []
        for batch in self._snapshot.reader(columns):
            mask = pc.equal(batch.column("decision"), "quarantined")
            if reason is not None:
                mask = pc.and_(mask, pc.fill_null(pc.equal(batch.column("reason"), reason), False))
            rows += batch.filter(mask).slice(0, limit - len(rows)).to_pylist()
            if len(rows) >= limit:
                break
        return rows

    def query(
        self, sql: str, columns: Sequence[str] | None = None, parameters: Mapping[str, object] | None = None
    ) -> pa.Table:
        """Run SQL over a view called `manifest`; DuckDB streams the parts and spills to local disk when necessary.

        `columns`: the columns that the query needs, to avoid reading all. `parameters`: values for `$name` in the
        query; never write a value from data into the SQL itself. The SQL can't open files. Raises `UserError` for SQL
        that fails and `LocalDiskError` for a full disk.
        """
        import duckdb

        with tables.scratch(QUERY_MEMORY, "a query of the manifest") as db:
            try:
                with manifest.Streams() as streams:
                    db.register("manifest", streams.of(self._snapshot.reader(columns)))
                    return db.sql(sql, params=parameters).to_arrow_table()
            except duckdb.Error as error:
                if tables.disk_error(error, "") is not None:
                    raise
                line = str(error).splitlines()[0]
                raise UserError(
                    f"manifest query: {line}", fix="use columns of manifest_schema.BASE_FIELDS and of the scores"
                ) from None


def plain_location(url: str) -> str:
    """Convert a file:// URL to a path; leave any other URL unchanged."""
    return url.removeprefix("file://")
