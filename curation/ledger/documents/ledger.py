"""The documents of the ledger: commit records, plans and snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from curation.core.errors import StoreError
from curation.ledger.documents.base import Count, Document, Sha256, Text, Uid, damaged, expect_single_keys
from curation.storage.store import Store, open_store

DataKey = Annotated[str, Field(pattern=r"^data/[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)+$")]  # excludes `..` and a second `/`
PageKey = Annotated[str, Field(pattern=r"^plans/pages/[0-9a-f]{64}\.parquet$")]
SnapshotNumber = Annotated[int, Field(ge=1, lt=10**9)]
ByReason = dict[str, Count]
PoisonReason = Literal["poison_died", "poison_hung", "poison_raised"]
UnscoredReason = Literal["no_label", "bad_label", "unknown_class", "no_probabilities", "bad_probabilities"]
RowKey = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,17})$")]  # a row number: JSON keys are strings


# --- data objects and counts --------------------------------------------------------------------------------------


class DataObject(Document):
    """A reference to an object below `data/`. `key` is relative to the ledger's root."""

    key: DataKey
    sha256: Sha256
    bytes: Count


class Tally(Document):
    """Counts of samples: seen = kept + filtered + quarantined."""

    seen: Count
    kept: Count
    filtered: ByReason
    quarantined: ByReason

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        filtered, quarantined = sum(self.filtered.values()), sum(self.quarantined.values())
        _same("seen", self.seen, "kept + filtered + quarantined", self.kept + filtered + quarantined)
        return self


def _at_most(name: str, value: int, of: str, total: int) -> None:
    if value > total:
        raise ValueError(f"counts do not add up: {name} {value} > {of} {total}")


def _same(name: str, value: int, sum_of: str, total: int) -> None:
    if value != total:
        raise ValueError(f"counts do not add up: {name} {value} != {sum_of} {total}")


class ReferencingDocument(Document):
    """A document that refers to data objects."""

    def names(self) -> Iterator[str]:
        """Yield the keys of all data objects that this document refers to, also in fields of a later version.

        Two of a snapshot's objects are indexes, which refer to further objects.
        """
        yield from _data_keys(self.to_json())


def _data_keys(value: Any) -> Iterator[str]:
    """Yield every `"key": "data/..."` in a JSON value."""
    if isinstance(value, dict):
        key = value.get("key")
        if isinstance(key, str) and key.startswith("data/"):
            yield key
        for inner in value.values():
            yield from _data_keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _data_keys(inner)


# --- commit records -----------------------------------------------------------------------------------------------


class ScoreRecord(ReferencingDocument):
    """The commit record of the score table of one shard and fingerprint. Only an index counts quarantined samples.

    `poison`: row -> reason, for rows without a value because the scorer died, hung or raised, or because the sample
    lacks what the scorer needs. Rows count from 0.
    """

    kind: Literal["score"]
    column: Text
    fingerprint: Text
    key: Text
    size: Count
    etag: str
    seen: Count
    data: DataObject
    quarantined: ByReason = Field(default_factory=dict)
    reason: str | None = None
    software: str | None = None  # digest of the versions in <scores>/software/<digest>.json
    poison: dict[RowKey, PoisonReason | UnscoredReason] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        _at_most("quarantined", sum(self.quarantined.values()), "seen", self.seen)
        beyond = next((row for row in self.poison if int(row) >= self.seen), None)
        if beyond is not None:
            raise ValueError(f"`poison` names row {beyond}, but there are only {self.seen} rows, counted from 0")
        return self


class WriteInput(Tally):
    """One input shard of a write unit; `reason` is set if the whole shard is quarantined."""

    key: Text
    size: Count
    etag: str
    reason: str | None


class OutputShard(DataObject):
    """One output shard."""

    samples: Count


class ManifestPart(DataObject):
    """One Parquet object of the manifest."""

    rows: Count


class StaleEdits(Document):
    """How many edits were not applied because the sample's value is not their `from`, with examples.

    An example has uid, field, expected and present (JSON texts; None: missing), and in a snapshot's document the list.
    """

    count: Count
    examples: list[dict[str, str | None]]


class MarkedShardPin(Document):
    """A shard from which edits add samples, as they name it and as it was found; reason: why the store refuses it."""

    named: Text
    url: Text
    size: Count
    etag: str
    reason: str | None


class AddedSamples(Document):
    """The marked shards from which edits add samples, and the counts of these samples."""

    shards: list[MarkedShardPin]
    samples: Tally


class WriteRecord(Tally, ReferencingDocument):
    """The commit record of a write unit: its inputs, its output shards and its part of the manifest.

    added: whether edits add its samples, so that the inputs are marked shards, by URL, and not units of the plan.
    """

    kind: Literal["write"]
    inputs: Annotated[list[WriteInput], Field(min_length=1)]
    shards: list[OutputShard]
    manifest: ManifestPart
    added: bool = False
    stale_edits: StaleEdits | None = None

    @model_validator(mode="after")
    def _parts_add_up(self) -> Self:
        _same("seen", self.seen, "seen of the inputs", sum(item.seen for item in self.inputs))
        _same("kept", self.kept, "samples of the shards", sum(item.samples for item in self.shards))
        _same("seen", self.seen, "rows of the manifest", self.manifest.rows)
        return self


def relative_url(store: Store, root: Store) -> str:
    """Return the URL of a store for `scores_url`: `./...` if it is below the root, else absolute."""
    below = f"{root.url.rstrip('/')}/"
    return f"./{store.url.removeprefix(below)}" if store.url.startswith(below) else store.url


def _has_records(store: Store) -> bool:
    try:
        return next(iter(store.list("units", etags=False)), None) is not None
    except StoreError:
        return False


UnitRecord = Annotated[ScoreRecord | WriteRecord, Field(discriminator="kind")]


# --- plans and snapshots ------------------------------------------------------------------------------------------


class CorpusPin(Document):
    """The corpus of a plan: patterns below a root, or a snapshot at that root."""

    root: Text
    patterns: list[str] = Field(default_factory=list)
    snapshot: int | None = None


class PlanPage(Document):
    """One page of a plan. `key` contains the hash of its rows.

    In plans of earlier versions, `key` and `sha256` contain the hash of the Parquet bytes, which depends on Arrow's
    version.
    """

    key: PageKey
    units: Count
    sha256: Sha256 | None = None

    @property
    def name(self) -> str:
        """The hash in the key."""
        return self.key.removeprefix("plans/pages/").removesuffix(".parquet")


class PlanDocument(Document):
    """The sorted shards of a run, in pages, with their corpus and the fingerprints of the work."""

    corpus: CorpusPin
    fingerprints: dict[str, str]
    pages: list[PlanPage]
    units: Count
    bytes: Count

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        _same("units", self.units, "units of the pages", sum(page.units for page in self.pages))
        return self


class UnitCounts(Document):
    """The number of a snapshot's input shards, and of those quarantined as a whole, by reason.

    Earlier versions wrote no `reasons`.
    """

    total: Count
    quarantined: Count
    reasons: ByReason = Field(default_factory=dict)

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        _at_most("quarantined", self.quarantined, "total", self.total)
        if self.reasons:
            _same("quarantined", self.quarantined, "reasons", sum(self.reasons.values()))
        return self


class DuplicateGroup(Document):
    """One sample that a filter keeps (`stays`) and the duplicates that it drops: `goes` lists some of them."""

    filter: Text
    samples: Count
    stays: Uid
    goes: list[Uid]


class SnapshotDocument(ReferencingDocument):
    """One immutable version of a dataset."""

    snapshot: SnapshotNumber
    parent: SnapshotNumber | None
    decision_id: Text
    plan: Sha256
    recipe: dict[str, Any]
    recipe_sha256: Sha256
    scores_url: Text
    fingerprints: dict[str, str]
    weights: dict[str, str] = Field(default_factory=dict)
    scores: list[str]
    score_types: dict[str, str] = Field(default_factory=dict)
    units: UnitCounts
    samples: Tally
    shards: DataObject
    manifest: DataObject
    urls: DataObject
    groups: list[DuplicateGroup] = Field(default_factory=list)
    lists: dict[str, DataObject] = Field(default_factory=dict)
    against: dict[str, int] = Field(default_factory=dict)
    matches: DataObject | None = None
    software: dict[str, dict[str, str]] = Field(default_factory=dict)  # digest -> package -> version
    stale_edits: StaleEdits | None = None
    added: AddedSamples | None = None
    unreadable: DataObject | None = None  # the shards that it was created without (`curation.ledger.unreadable`)

    def scores_at(self, root: Store) -> Store:
        """Open the store of the score tables. `root`: the dataset's store.

        A URL that begins with `./` is relative to the root, so that a dataset can be moved or copied with its scores.
        Earlier versions wrote absolute URLs: if such a store holds no records, but `scores` below the root does, the
        latter is used. That costs one or two LIST requests.
        """
        if self.scores_url.startswith("./"):
            return open_store(root.location(self.scores_url.removeprefix("./")), root.options)
        absolute, below = open_store(self.scores_url, root.options), open_store(root.location("scores"), root.options)
        return below if not _has_records(absolute) and _has_records(below) else absolute


_EITHER: TypeAdapter[ScoreRecord | WriteRecord] = TypeAdapter(UnitRecord)


def parse_unit_record(data: bytes, where: str, fix: str) -> ScoreRecord | WriteRecord:
    """Parse a commit record of either kind. Raises `LedgerError` with `fix` if it is damaged; `where`: its location."""
    try:
        found = _EITHER.validate_json(data)
    except ValidationError as error:
        raise damaged(error, data, where, fix) from None
    expect_single_keys(data, where, fix)
    return found
