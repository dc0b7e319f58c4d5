"""The YAML recipe: what to curate and how, validated, with no code in it.

Its fields are the dataclasses of the rooms: a new scorer or filter is a new key without a line changed here. Every
mistake is one line that names the file's line and the nearest valid key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import duckdb
import pyarrow as pa
from pydantic import AfterValidator, Field

from curation.core.digest import digest
from curation.core.errors import RecipeError, UnknownNameError, UserError, locating
from curation.filters import FILTERS, ComparingFilter, FileReadingFilter, Filter, flat
from curation.filters.named import READABLE, NamedFilter, columns_needed
from curation.ledger import manifest_schema
from curation.ledger.score_tables import INDEX, TYPES, Column, is_vector
from curation.recipes.recipe_limits import Limits
from curation.recipes.yaml_document import (
    Section,
    StoreSection,
    Where,
    build_entry,
    parse_document,
    read_recipe,
    store_options,
)
from curation.recipes.yaml_overrides import nearest
from curation.scorers import SCORERS, Scorer, fingerprint
from curation.shards.contents import CAPTION_PLACE
from curation.shards.images import DecodeLimits, Preprocess
from curation.shards.unit_reader import INDEX_SCHEMA, index_fingerprint
from curation.storage import tables
from curation.storage.pinned_file import PinnedFile
from curation.storage.store import StoreOptions

#: Names that the index, the decision engine (of tables that it joins with the samples, too) and the manifest have for
#: columns of their own. Filters' queries say of each column whose it is, and have no name that is taken.
TAKEN = frozenset(
    {*INDEX_SCHEMA.names, INDEX, "id", "unit", "bad", "bits", "block", "kept", "snapshot", "own"}
    | {"shard_key", "shard_etag"}  # of an export of scores
    | {*manifest_schema.schema({}).names}
)
LARGEST = (1 << 63) - 1  # whole number of the decision engine


def _memory(value: str) -> str:
    """What DuckDB reads as a size, and can begin with."""
    try:
        with tables.scratch(value, "a trial of compute.memory") as db:
            db.execute("CREATE TABLE first AS SELECT md5(range::VARCHAR) AS uid FROM range(9999)")
    except duckdb.OutOfMemoryException:
        raise ValueError(f"{value!r} is too little: 2GB is what it is where nothing is said") from None
    except duckdb.Error:
        raise ValueError(f"{value!r} is no size of memory, such as 2GB or 80%") from None
    return value


class Shards(Section):
    """Output shards: at most this many samples each."""

    samples: int = Field(default=10_000, ge=1)


class Input(Section):
    """How samples are read. `caption`: `txt`, or `json.<field>`; else .txt, and then the json's `caption` or `text`."""

    caption: Annotated[str | None, Field(pattern=f"^(?:{CAPTION_PLACE})$")] = None


class Compute(Section):
    """How much of the cluster to use. Nothing here changes a score or a decision."""

    batch_size: int = Field(default=256, ge=1)
    # Seconds that a scorer may take for a batch, or the decoder for 256 samples, without waits for the store, which
    # `store.patience` limits: what takes longer hangs, and is ended.
    batch_timeout: float = Field(default=900, gt=0, le=86_400)
    num_gpus: float = Field(default=0, ge=0)  # per scorer actor; fractions share a GPU
    num_cpus: float = Field(default=1, gt=0)  # per scorer actor; its threads, at least one
    min_actors: int = Field(default=1, ge=1)
    max_actors: int | None = Field(default=None, ge=1)  # default: as many as the cluster's CPUs or GPUs allow
    decode_tasks: int | None = Field(default=None, ge=0)  # ahead of an actor; default 4 with a GPU, 0 without
    decode_cpus: float = Field(default=1, gt=0)  # per decode task
    write_workers: int | None = Field(default=None, ge=1)  # default: the cluster's CPUs
    # Of the decision engine; beyond it, DuckDB spills to local disk.
    memory: Annotated[str, AfterValidator(_memory)] = "2GB"


class _Document(Section):
    corpus: str | list[str]
    output: str
    scores: str | None = None
    scorers: list[dict[str, Any]] = Field(default_factory=list)
    filters: list[dict[str, Any]] = Field(default_factory=list)
    keep: str | None = None
    drop: str | None = None
    weights: str | None = None
    # What becomes of a shard that the store refuses for good (403, archived, gone): the run stops, or it is set aside.
    on_unreadable: Literal["stop", "quarantine"] = "stop"
    shards: Shards = Field(default_factory=Shards)
    input: Input = Field(default_factory=Input)
    limits: Limits = Field(default_factory=Limits)
    store: StoreSection = Field(default_factory=StoreSection)
    compute: Compute = Field(default_factory=Compute)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A validated recipe. `scorers` maps column names to scorers, in the recipe's order."""

    corpus: tuple[str, ...]
    output: str
    scores: str
    scorers: Mapping[str, Scorer]
    filters: Sequence[NamedFilter]
    keep: str | None
    drop: str | None
    weights: str | None
    shards: Shards
    caption: str  # where captions stand: `input.caption`, or "" for the usual places
    limits: DecodeLimits
    max_quarantined: float
    options: StoreOptions
    compute: Compute
    document: Mapping[str, Any]  # as written, for the snapshot
    places: Mapping[str, str]  # scorer -> file:line
    on_unreadable: str = "stop"

    @property
    def sha256(self) -> str:
        return digest(self.document)

    @property
    def index(self) -> Column:
        return Column(INDEX, index_fingerprint(self.limits, self.caption))

    @property
    def columns(self) -> list[Column]:
        """The index, then one score column a scorer."""
        index = self.index
        return [index, *(Column(n, fingerprint(s, index.fingerprint)) for n, s in self.scorers.items())]

    def files(self, *, scorers: bool = True) -> Iterator[tuple[str, PinnedFile]]:
        """What scorers and filters read besides the corpus: weights, vectors, lists of words; some perhaps twice. Each
        with whose it is, and where that stands."""
        for name, scorer in self.scorers.items() if scorers else ():
            yield from ((f"{self.places[name]}: scorer {name}", file) for file in scorer.files())
        for item in self.filters:
            if isinstance(item.filter, FileReadingFilter):
                yield from ((f"{item.place}: filter {item.name}", file) for file in item.filter.files())

    @property
    def fingerprints(self) -> dict[str, str]:
        return {column.name: column.fingerprint for column in self.columns}


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and validate a recipe file; `overrides` are `key=value` or `key.sub=value`, values in YAML."""
    return parse_recipe(read_recipe(path), str(path), overrides)


def parse_recipe(
    text: str, name: str = "recipe", overrides: Sequence[str] = (), *, of_snapshot: bool = False
) -> Recipe:
    """Validate a recipe's text. Raises `RecipeError` or `UnknownNameError`, one line each.

    `of_snapshot`: it is one that an earlier version accepted and made a snapshot of, which may name two filters alike.
    """
    document, value, where = parse_document(text, _Document, name, overrides, "it needs at least corpus: and output:")
    return _recipe(document, value, where, of_snapshot)


def columns_of(name: str, scorer: Scorer) -> dict[str, pa.DataType]:
    """The columns that a scorer called `name` gives to filters and manifest: one, or one a part; with their types."""
    kind = scorer.values()
    return {f"{name}.{part.name}": part.type for part in kind} if pa.types.is_struct(kind) else {name: kind}


def _told(name: str, scorer: Scorer) -> dict[str, pa.DataType]:
    """`columns_of`, once it has told what of its weights and models can't be. Raises `UserError`, also for what goes
    wrong in the code of another package."""
    try:
        scorer.files()
        scorer.identity()
        _expect(scorer, "views", list(scorer.views()), Preprocess)
        _expect(scorer, "values", [scorer.values()], pa.DataType)
        return columns_of(name, scorer)
    except UserError:
        raise
    except Exception as error:
        if type(scorer).__module__.startswith("curation."):
            raise
        text = f"{type(scorer).__name__} fails: {type(error).__name__}: {error}"
        raise UserError(text, fix="have its package mended, or leave it out of the recipe") from error


def _expect(scorer: Scorer, method: str, given: Sequence[Any], kind: type[Any]) -> None:
    for one in given:
        if not isinstance(one, kind):
            text = f"{method}() of {type(scorer).__name__} gives {type(one).__name__}, and not {kind.__name__}"
            raise UserError(text, fix="have its package mended, or leave it out of the recipe")


def kinds_of(scorers: Mapping[str, Scorer]) -> dict[str, pa.DataType]:
    """All columns that these scorers give, with their types."""
    return {column: kind for name, scorer in scorers.items() for column, kind in columns_of(name, scorer).items()}


def _check_filter(what: str, item: Filter, made: Mapping[str, pa.DataType]) -> None:
    """What DuckDB would say only once everything is scored, or never: it orders words as well as numbers."""
    kinds = {**{name: INDEX_SCHEMA.field(name).type for name in READABLE}, **made}
    for column in columns_needed([NamedFilter("", item)])[0]:
        if column not in kinds:
            raise RecipeError(f"{what} reads {column}, which is for the engine", fix=f"of the index: {_of(READABLE)}")
    numbers = [name for name, kind in kinds.items() if _is_number(kind)]
    hashes = [name for name, kind in made.items() if kind == pa.int64()]
    for part in flat([item]):
        for field, value in vars(part).items():
            if isinstance(value, int) and abs(value) > LARGEST:
                raise RecipeError(f"{what}: {field} is {value}", fix=f"a whole number is at most {LARGEST:,}")
            if not isinstance(value, str) or value not in kinds:
                continue
            if field in {"score", "prefer"} and value not in numbers:
                raise RecipeError(f"{what}: {field}: {value} is no number", fix=f"numbers here: {_of(numbers)}")
            if field == "hash" and value not in hashes:
                raise RecipeError(f"{what}: hash: {value} is no hash of a picture", fix=f"hashes here: {_of(hashes)}")
            if field == "column" and pa.types.is_floating(kinds[value]):
                raise RecipeError(f"{what}: column: {value} has another value for each sample", fix="filter threshold")
            if field == "column" and is_vector(kinds[value]):
                words = [name for name, kind in kinds.items() if not is_vector(kind)]
                raise RecipeError(f"{what}: column: {value} is a vector", fix=f"words and numbers here: {_of(words)}")


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _of(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _recipe(document: _Document, value: dict[str, Any], where: Where, of_snapshot: bool) -> Recipe:
    scorers: dict[str, Scorer] = {}
    places: dict[str, str] = {}
    for i, entry in enumerate(document.scorers):
        if index := [kind for kind in entry if kind in READABLE and kind not in SCORERS]:
            fix = f"leave it out: filters may read it of every sample, as {_of(READABLE)}"
            raise UnknownNameError(f"{where(('scorers', i))}: {index[0]} needs no scorer", fix=fix)
        name, scorer = build_entry(entry, SCORERS, where, ("scorers", i), "scorer")
        at = where(("scorers", i))
        if name.lower() in {*map(str.lower, scorers), *TAKEN}:  # DuckDB knows no capitals
            other = next((f"the one at {places[made]}" for made in scorers if made.lower() == name.lower()), "our own")
            text = f"{at}: two columns are called {name}, this and {other}"
            raise RecipeError(text, fix="give one of them a `name:` of its own")
        with locating(f"{at}: scorer {name}"):
            kinds = _told(name, scorer)
        for column, kind in kinds.items():
            if str(kind) not in TYPES and not is_vector(kind):
                may = ", ".join(TYPES)
                raise RecipeError(f"{at}: {column} is {kind}; a column is one of {may}, or a vector")
        scorers[name], places[name] = scorer, at
    made = kinds_of(scorers)
    filters: list[NamedFilter] = []
    for i, entry in enumerate(document.filters):
        name, item = build_entry(entry, FILTERS, where, ("filters", i), "filter")
        twin = next((one for one in filters if one.name == name), None)
        if twin is not None and not of_snapshot:  # their drops would be counted under one reason
            text = f"{where(('filters', i))}: two filters are called {name}, this and the one at {twin.place}"
            raise RecipeError(text, fix="give one of them a `name:` of its own")
        filters.append(NamedFilter(name, item, where(("filters", i))))
        _check_filter(f"{where(('filters', i))}: filter {name}", item, made)
        for column in columns_needed([filters[-1]])[1]:
            if column not in made:
                near = nearest(column, made)
                have = f"scores here: {', '.join(made) or 'none'}"
                raise UnknownNameError(
                    f"{where(('filters', i))}: filter {name} reads the score {column}, which no scorer makes",
                    fix=f"did you mean {near}?" if near else have,
                )
        for part in flat([item]):
            for column in part.compared() if isinstance(part, ComparingFilter) else ():
                if column not in scorers:
                    text = f"{where(('filters', i))}: filter {name} compares {column}, no whole scorer's column"
                    raise RecipeError(text, fix=f"there are: {', '.join(scorers) or 'none'}")
    corpus = (document.corpus,) if isinstance(document.corpus, str) else tuple(document.corpus)
    return Recipe(
        corpus=corpus,
        output=document.output,
        scores=document.scores or document.output.rstrip("/") + "/scores",
        scorers=scorers,
        filters=filters,
        keep=document.keep,
        drop=document.drop,
        weights=document.weights,
        shards=document.shards,
        caption=document.input.caption or "",
        limits=document.limits.of_decoding(),
        max_quarantined=document.limits.max_quarantined,
        options=store_options(document.store, where),
        compute=document.compute,
        document=value,
        places=places,
        on_unreadable=document.on_unreadable,
    )
