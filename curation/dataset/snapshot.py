"""What a consumer opens: one immutable version of a curated dataset.

    import curation as cu
    snapshot = cu.open("s3://curated/everyday-objects")      # the latest; "...@42" is snapshot 42
    snapshot.urls, snapshot.samples(), snapshot.webdataset(), snapshot.manifest, snapshot.torch()

Opening costs two small GETs and three HEADs (of `URL@42` one GET); nothing else is read before it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.core.errors import LedgerError, UserError
from curation.core.types import IMAGE_EXTENSIONS, Sample, ShardRef, Source
from curation.dataset import manifest
from curation.ledger import manifest_schema
from curation.ledger.documents import SnapshotDocument, repair
from curation.ledger.ledger import Ledger, read_named
from curation.ledger.score_tables import TYPES
from curation.shards.contents import written
from curation.shards.tar import read_samples
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
QUERY_MEMORY = "80%"  # of this machine's, as DuckDB takes by itself
_VERSION = re.compile(r"(.+)@(\d+|latest)\Z")


def open(url: str, *, options: StoreOptions | None = None) -> Snapshot:
    """Open `URL` (the latest snapshot) or `URL@N`. Raises `NoSnapshotError` or a `StoreError`."""
    root, number = split_version(url)
    return open_snapshot(root, number, options)


def split_version(url: str) -> tuple[str, int | None]:
    """The root and the number of `URL@N`; None for the latest, which `URL` and `URL@latest` mean."""
    match = _VERSION.match(url)
    root, version = (match[1], match[2]) if match else (url, "latest")
    return root, None if version == "latest" else int(version)


def open_snapshot(root: str, number: int | None = None, options: StoreOptions | None = None) -> Snapshot:
    """Open snapshot `number` below `root`, or the latest."""
    store = open_store(root, options)
    return Snapshot(store, Ledger(store).snapshot(number))


@dataclass(frozen=True)
class Snapshot:
    """An immutable version: filtered shards, manifest, recipe, parent. `document` is its json as committed."""

    store: Store
    document: SnapshotDocument

    @property
    def number(self) -> int:
        return self.document.snapshot

    @property
    def caption(self) -> str:
        """Where captions stand: what its recipe says under `input`, "" for the usual places (see `contents`)."""
        return str((self.document.recipe.get("input") or {}).get("caption") or "")

    @cached_property
    def limits(self) -> DecodeLimits:
        """How its recipe decodes pictures."""
        from curation.recipes.recipe_limits import limits_of

        return limits_of(self.document.recipe)

    @cached_property
    def shards(self) -> pa.Table:
        """The output shards (key, sha256, bytes, samples, unit), one row each."""
        return self._index("shards")

    @cached_property
    def parts(self) -> pa.Table:
        """The manifest's Parquet objects (key, sha256, bytes, rows, unit), in source order."""
        return self._index("manifest")

    def shard_keys(self) -> list[str]:
        return self.shards.column("key").to_pylist()  # type: ignore[no-any-return]

    @property
    def urls(self) -> list[str]:
        """Where the shards are: s3:// (gs://, az://) URLs, or plain paths for a local dataset."""
        return [plain_location(self.store.location(key)) for key in self.shard_keys()]

    @property
    def manifest_urls(self) -> list[str]:
        return [plain_location(self.store.location(key)) for key in self.parts.column("key").to_pylist()]

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The largest groups of duplicates, by filter: filter, samples, stays (a uid), goes (some uids). Empty for a
        snapshot of an earlier version."""
        return [dict(group) for group in self.document.get("groups", [])]

    def samples(self) -> Iterator[Sample]:
        """Every kept sample, in order, with its bytes. One shard is streamed at a time."""
        for shard in self.shards.to_pylist():
            yield from self.read_shard(ShardRef(shard["key"], shard["bytes"], ""))

    def read_shard(self, shard: ShardRef) -> Iterator[Sample]:
        """The samples of one output shard."""
        for found in read_samples(self.store.blocks(shard.key, shard.size, shard.etag or None), shard.size):
            parts = {part.extension: part.data for part in found.parts}
            extension = next(e for e in parts if e in IMAGE_EXTENSIONS)
            value, caption = written(parts, self.caption)
            origin = value["tutelage"]
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
        """The manifest as a stream of Arrow batches, a part in memory at a time. Give it to DuckDB or PyArrow."""
        fields = self._manifest_schema()
        chosen = fields if columns is None else pa.schema([fields.field(name) for name in columns])
        return pa.RecordBatchReader.from_batches(chosen, self._batches(chosen))

    def _batches(self, chosen: pa.Schema) -> Iterator[pa.RecordBatch]:
        for part in self.parts.to_pylist():
            yield from self.read_part(part, chosen.names).cast(chosen).to_batches()

    def read_part(self, part: Mapping[str, Any], columns: Sequence[str] | None = None) -> pa.Table:
        """One Parquet of the manifest, by its row in `parts`. Raises `LedgerError` where a uid is none."""
        table = self.table(part, columns, manifest_schema.LATER)
        if "uid" in table.column_names:
            manifest.check_uids(table, self.store.location(part["key"]))
        return table

    def table(
        self, item: Mapping[str, Any], columns: Sequence[str] | None = None, later: Mapping[str, pa.DataType] = _NONE
    ) -> pa.Table:
        """A Parquet object that the snapshot names (key, sha256). Raises `LedgerError` where it is gone or damaged.

        Columns of `later` that it lacks are null: an earlier version wrote it.
        """
        fix = repair(f"{self.store.url}@{self.number}")
        data = read_named(self.store, item["key"], item["sha256"], fix)
        try:
            return from_parquet(data, columns, later)
        except (pa.ArrowException, KeyError) as error:
            what = str(error).splitlines()[0]
            raise LedgerError(
                f"{self.store.location(item['key'])} is not the table expected: {what}", fix=fix
            ) from None

    def part_of(self, key: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The Parquet of the manifest that tells of the samples of one output shard, beside others."""
        if key not in self._parts_by_shard:
            raise LedgerError(f"{key} is no shard of {self.store.url}@{self.number}")
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
        """What the kept samples weigh. Reads three columns of the manifest; those other than 1 are held in memory."""
        import pyarrow.compute as pc

        from curation.dataset.sample_weights import SampleWeights

        own: dict[str, float] = {}
        for batch in self.reader(["uid", "decision", "weight"]):
            kept = pc.equal(batch.column("decision"), "kept")
            some = batch.filter(pc.and_(kept, pc.not_equal(batch.column("weight"), 1.0)))
            own.update(zip(some.column("uid").to_pylist(), some.column("weight").to_pylist(), strict=True))
        return SampleWeights(own, self.document.samples.kept)

    def webdataset(self, *, shuffle: bool = False, seed: int = 0) -> SnapshotDataset:
        """A `webdataset.WebDataset` over the shards; chain `.decode("pil").to_tuple("jpg;png;webp", "txt")` as usual.

        Reads every store this library reads, without an external command.
        """
        from curation.shards.webdataset_io import SnapshotDataset

        return SnapshotDataset(self.store, self.shard_keys(), self.caption, shuffle=shuffle, seed=seed)

    def loader_shards(self) -> list[ListedShard]:
        """The output shards as `loader.SampleStream` reads them."""
        from curation.dataset.loader import ListedShard

        rows = self.shards.to_pylist()
        refs = [(ShardRef(row["key"], row["bytes"], ""), row["samples"]) for row in rows]
        return [ListedShard(self.store, ref, samples, self.caption, self.limits) for ref, samples in refs]

    def torch(self, *, size: int = 224, weighted: bool = False, **options: Any) -> SampleStream:
        """A `torch.utils.data.IterableDataset` of decoded samples that splits itself over ranks and workers.

        Nothing is lost or repeated, and shares differ by one sample at the most. With `weighted`, each sample appears
        as often as its weight in the manifest says, over the epochs (`set_epoch`: a light one is not in every epoch),
        and shares differ by chance. `options` go to `SampleStream`.
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
            text = f"{self.store.url}@{self.number} has scores of an unknown type, {min(unknown)}"
            raise LedgerError(text, fix="read it with the version of Tutelage that wrote it")
        return manifest_schema.schema({name: TYPES[kinds.get(name, "float")] for name in self.document.scores})


class Manifest:
    """A snapshot's manifest as a table, read when asked."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def to_arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The whole manifest in memory: about 300 bytes a sample. For more than fits, use `query` or `reader`."""
        return self._snapshot.reader(columns).read_all()

    def quarantined(self, reason: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The first quarantined samples, of one reason or of any: uid, key, reason and its detail, source."""
        import pyarrow.compute as pc

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
        """Run SQL over a view called `manifest`; DuckDB streams the parts and spills to local disk when it must.

        `columns`: the only ones that the query needs, where all of them would be much to read. `parameters`: values
        for `$name` in the query; never write a value from data into the SQL itself. The SQL can open no file.
        Raises `UserError` for SQL that fails and `LocalDiskError` for a full disk.
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
                    f"manifest query: {line}", fix="the columns are those of manifest_schema.BASE_FIELDS"
                ) from None


def plain_location(url: str) -> str:
    return url.removeprefix("file://")
