"""The YAML recipe of a curation run: what to curate and how, with no code in it.

Entries are dataclasses of the rooms' tables, so a new scorer or filter is a new key without a change here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, ValidationInfo, model_validator

from curation.filters import FileReadingFilter
from curation.filters.named import NamedFilter
from curation.ledger.score_tables import INDEX, Column
from curation.recipes.entries import build_filters, build_scorers, check_filters
from curation.recipes.recipe_limits import Limits
from curation.recipes.sections import Document, Section, Store, Urls, Written
from curation.recipes.yaml_document import parse_document, read_recipe
from curation.scorers import Scorer, fingerprint
from curation.shards.contents import CAPTION_PLACE
from curation.shards.images import DecodeLimits
from curation.shards.unit_reader import index_fingerprint
from curation.storage import tables
from curation.storage.pinned_file import PinnedFile
from curation.storage.store import StoreOptions


def _memory(value: str) -> str:
    """Return a size of memory that DuckDB accepts and can start with. Raises `ValueError`."""
    import duckdb  # 0.1 CPU s; most recipes leave the default, which is not tried

    try:
        with tables.scratch(value, "a trial of compute.memory") as db:
            db.execute("CREATE TABLE first AS SELECT md5(range::VARCHAR) AS uid FROM range(9999)")
    except duckdb.OutOfMemoryException:
        raise ValueError(f"{value!r} is too little; the default is 2GB") from None
    except duckdb.Error:
        raise ValueError(f"{value!r} is not a size of memory, such as 2GB or 80%") from None
    return value


class Shards(Section):
    """Output shards."""

    samples: int = Field(default=10_000, ge=1, description="samples of an output shard, at most")


class Input(Section):
    """How samples are read."""

    caption: str | None = Field(
        default=None,
        pattern=f"^(?:{CAPTION_PLACE})$",
        description="where captions are: `txt` or `json.<field>`; default: .txt, else the json's `caption` or `text`",
    )


class Edits(Section):
    """Edit lists, and how they are merged."""

    lists: Urls = Field(min_length=1, description="URLs of edit lists")
    order: Literal["none", "last_wins"] = Field(
        default="none",
        description="none: two lists that contradict each other are an error; last_wins: the later list's edit "
        "applies, and `keep`, `drop` and `weights` come before all edit lists",
    )


def as_edits(value: Any) -> Any:
    """Return the mapping that a URL or a list of URLs stands for."""
    return {"lists": value} if isinstance(value, str | list) else value


class Compute(Section):
    """How much of the machine or the cluster to use. Scores change by their rounding at most."""

    batch_size: int = Field(default=256, ge=1, description="samples that a scorer is given at once")
    batch_timeout: float = Field(
        default=900,
        gt=0,
        le=86_400,
        description="seconds after which a scorer's batch, or the decoding of 256 samples, counts as hanging and is "
        "killed; waits for the store don't count (see `store.patience`)",
    )
    num_gpus: float = Field(default=0, ge=0, description="GPUs of a scorer actor; fractions share a GPU")
    num_cpus: float = Field(default=1, gt=0, description="CPUs of a scorer actor; it has as many threads, at least one")
    min_actors: int = Field(default=1, ge=1, description="scorer actors, at least")
    max_actors: int | None = Field(
        default=None, ge=1, description="scorer actors, at most; default: as many as CPUs or GPUs allow"
    )
    decode_tasks: int | None = Field(
        default=None, ge=0, description="processes that decode ahead of an actor; default: 4 with a GPU, 0 without"
    )
    decode_cpus: float = Field(default=1, gt=0, description="CPUs of a decode task")
    compile: bool = Field(
        default=False,
        description="compile models with torch.compile: minutes at the start of an actor; scores differ by rounding",
    )
    write_workers: int | None = Field(default=None, ge=1, description="writing workers; default: the number of CPUs")
    memory: Annotated[str, AfterValidator(_memory)] = Field(
        default="2GB", description="memory of the decision engine; DuckDB spills to local disk beyond it"
    )


class Recipe(Document):
    """A validated recipe of a curation run."""

    corpus: Urls = Field(description="URLs of shards, with patterns")
    output: str = Field(description="URL under which snapshots are written")
    scores: str = Field(default="", description="URL of the score tables; default: `<output>/scores`")
    scorers: Annotated[Mapping[str, Scorer], Written(list[dict[str, Any]], build_scorers)] = Field(
        default_factory=dict, description="score columns, by name, in order"
    )
    filters: Annotated[Sequence[NamedFilter], Written(list[dict[str, Any]], build_filters)] = Field(
        default_factory=list, description="filters in order; the first that drops a sample is its reason"
    )
    keep: str | None = Field(default=None, description="URL of a list of uids that no filter drops")
    drop: str | None = Field(default=None, description="URL of a list of uids to drop")
    weights: str | None = Field(default=None, description="URL of a list of uids with sample weights")
    edits: Annotated[Edits | None, BeforeValidator(as_edits, json_schema_input_type=str | list[str] | Edits | None)] = (
        Field(default=None, description="URLs of edit lists; or `lists`, and how they are merged")
    )
    on_unreadable: Literal["stop", "quarantine"] = Field(
        default="stop", description="stop, or quarantine a shard that the store refuses for good (403, archived, gone)"
    )
    shards: Shards = Field(default_factory=Shards)
    input: Input = Field(default_factory=Input)
    limits: Limits = Field(default_factory=Limits)
    store: Store = Field(
        default_factory=StoreOptions, description="the object store, and how long its failures are retried"
    )
    compute: Compute = Field(default_factory=Compute)

    _places: dict[str, str] = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _default_scores(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("scores") in (None, "") and isinstance(value.get("output"), str):
            return {**value, "scores": value["output"].rstrip("/") + "/scores"}
        return value

    @model_validator(mode="after")
    def _check_filters(self, info: ValidationInfo) -> Self:
        check_filters(self.filters, self.scorers)
        return self

    def model_post_init(self, context: Any) -> None:
        super().model_post_init(context)
        where = context.where
        self._places = {name: where(("scorers", place)) for place, name in enumerate(self.scorers)}

    @property
    def places(self) -> Mapping[str, str]:
        """The `file:line` of each scorer."""
        return self._places

    @property
    def options(self) -> StoreOptions:
        """How to reach the stores of this recipe."""
        return self.store

    @property
    def caption(self) -> str:
        """Where captions are: `input.caption`, or "" for the default places."""
        return self.input.caption or ""

    @property
    def max_quarantined(self) -> float:
        """Share of samples, and of shards, that may be quarantined."""
        return self.limits.max_quarantined

    @property
    def decoding(self) -> DecodeLimits:
        """Limits of decoding, which are part of fingerprints."""
        return self.limits.of_decoding()

    @property
    def index(self) -> Column:
        """The column of the index: what reading makes of each sample."""
        return Column(INDEX, index_fingerprint(self.decoding, self.caption))

    @property
    def columns(self) -> list[Column]:
        """The index, then one column for each scorer."""
        index = self.index
        return [index, *(Column(n, fingerprint(s, index.fingerprint)) for n, s in self.scorers.items())]

    @property
    def fingerprints(self) -> dict[str, str]:
        """Column name -> fingerprint."""
        return {column.name: column.fingerprint for column in self.columns}

    @property
    def edit_lists(self) -> Sequence[str]:
        """URLs of the edit lists, in order."""
        return self.edits.lists if self.edits else ()

    @property
    def last_wins(self) -> bool:
        """Whether the later of two contradicting edits applies."""
        return bool(self.edits and self.edits.order == "last_wins")

    def files(self, *, scorers: bool = True) -> Iterator[tuple[str, PinnedFile]]:
        """Yield (`file:line: owner`, file) of what scorers and filters read besides the corpus; some perhaps twice.

        `scorers`: False for the files of filters alone.
        """
        for name, scorer in self.scorers.items() if scorers else ():
            yield from ((f"{self.places[name]}: scorer {name}", file) for file in scorer.files())
        for item in self.filters:
            if isinstance(item.filter, FileReadingFilter):
                yield from ((f"{item.place}: filter {item.name}", file) for file in item.filter.files())


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and validate a recipe file; `overrides` are `key=value` or `key.sub=value`, values in YAML."""
    return parse_recipe(read_recipe(path), str(path), overrides)


def parse_recipe(
    text: str, name: str = "recipe", overrides: Sequence[str] = (), *, of_snapshot: bool = False
) -> Recipe:
    """Validate a recipe's text. Raises `RecipeError` or another `UserError`, one line each.

    `name`: the file in messages. `overrides`: as in `load_recipe`. `of_snapshot`: an earlier version accepted the
    recipe and made a snapshot with it; two of its filters may have one name.
    """
    needs = "it needs at least corpus: and output:"
    return parse_document(text, Recipe, name, overrides, needs=needs, of_snapshot=of_snapshot)
