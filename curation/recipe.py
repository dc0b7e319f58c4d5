"""The YAML recipe: what to curate and how, validated, with no code in it.

Its fields are the dataclasses of the rooms: a new scorer or filter is a new key without a line changed here. Every
mistake is one line that names the file's line and the nearest valid key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from curation.decisions import NamedFilter, columns_needed
from curation.errors import RecipeError, UnknownNameError
from curation.filters import FILTERS
from curation.images import DecodeLimits
from curation.ledger import digest
from curation.scorers import SCORERS, Scorer, fingerprint
from curation.scores import INDEX, Column
from curation.store import StoreOptions
from curation.units import INDEX_SCHEMA, index_fingerprint


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Shards(_Section):
    """Output shards: at most this many samples each."""

    samples: int = Field(default=10_000, ge=1)


class Limits(_Section):
    """What an image may be before it is decoded; defaults are those of `DecodeLimits`."""

    max_bytes: int = Field(default=DecodeLimits.max_bytes, ge=1)
    max_pixels: int = Field(default=DecodeLimits.max_pixels, ge=1)
    formats: tuple[str, ...] = DecodeLimits.formats


class StoreSection(_Section):
    """Where the object store is. Credentials come from the environment, a profile or the machine, never from here."""

    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None


class Compute(_Section):
    """How much of the cluster to use. Nothing here changes a score or a decision."""

    batch_size: int = Field(default=256, ge=1)
    num_gpus: float = Field(default=0, ge=0)  # per scorer actor; fractions share a GPU
    num_cpus: float = Field(default=1, gt=0)  # per scorer actor; its threads, at least one
    min_actors: int = Field(default=1, ge=1)
    max_actors: int | None = Field(default=None, ge=1)  # default: as many as the cluster's CPUs or GPUs allow
    decode_tasks: int | None = Field(default=None, ge=0)  # ahead of an actor; default 4 with a GPU, 0 without
    decode_cpus: float = Field(default=1, gt=0)  # per decode task
    write_workers: int | None = Field(default=None, ge=1)  # default: the cluster's CPUs
    memory: str = "2GB"  # of the decision engine; beyond it, DuckDB spills to local disk


class _Document(_Section):
    corpus: str | list[str]
    output: str
    scores: str | None = None
    scorers: list[dict[str, Any]] = []
    filters: list[dict[str, Any]] = []
    keep: str | None = None
    drop: str | None = None
    shards: Shards = Field(default_factory=Shards)
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
    shards: Shards
    limits: DecodeLimits
    options: StoreOptions
    compute: Compute
    document: Mapping[str, Any]  # as written, for the snapshot

    @property
    def sha256(self) -> str:
        return digest(self.document)

    @property
    def index(self) -> Column:
        return Column(INDEX, index_fingerprint(self.limits))

    @property
    def columns(self) -> list[Column]:
        """The index, then one score column a scorer."""
        index = self.index
        return [index, *(Column(n, fingerprint(s, index.fingerprint)) for n, s in self.scorers.items())]

    @property
    def fingerprints(self) -> dict[str, str]:
        return {column.name: column.fingerprint for column in self.columns}


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and validate a recipe file; `overrides` are `key=value` or `key.sub=value`, values in YAML."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"no recipe at {path}", fix="give the path of a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} can't be read: {error}") from None
    return parse_recipe(text, str(path), overrides)


def parse_recipe(text: str, name: str = "recipe", overrides: Sequence[str] = ()) -> Recipe:
    """Validate a recipe's text. Raises `RecipeError` or `UnknownNameError`, one line each."""
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise RecipeError(f"{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(value, dict):
        raise RecipeError(f"{name}: a recipe is a mapping of keys", fix="it needs at least corpus: and output:")
    locate = _Where(name, _lines(tree))
    for override in overrides:
        _override(value, override)
    try:
        document = _Document.model_validate(value)
    except ValidationError as error:
        raise _explain(error, locate, (), _Document) from None
    return _recipe(document, value, locate)


def _recipe(document: _Document, value: dict[str, Any], where: _Where) -> Recipe:
    scorers: dict[str, Scorer] = {}
    for i, entry in enumerate(document.scorers):
        name, scorer = _build(entry, SCORERS, where, ("scorers", i), "scorer")
        if name in scorers or name in INDEX_SCHEMA.names or name == INDEX:
            at = where(("scorers", i))
            raise RecipeError(f"{at}: two columns are called {name}", fix="give one of them a `name:` of its own")
        scorers[name] = scorer
    filters = []
    for i, entry in enumerate(document.filters):
        name, item = _build(entry, FILTERS, where, ("filters", i), "filter")
        filters.append(NamedFilter(name, item))
        for column in columns_needed([filters[-1]])[1]:
            if column not in scorers:
                near = _nearest(column, scorers)
                have = f"scorers here: {', '.join(scorers) or 'none'}"
                raise UnknownNameError(
                    f"{where(('filters', i))}: filter {name} reads the score {column}, which no scorer makes",
                    fix=f"did you mean {near}?" if near else have,
                )
    corpus = (document.corpus,) if isinstance(document.corpus, str) else tuple(document.corpus)
    return Recipe(
        corpus=corpus,
        output=document.output,
        scores=document.scores or document.output.rstrip("/") + "/scores",
        scorers=scorers,
        filters=filters,
        keep=document.keep,
        drop=document.drop,
        shards=document.shards,
        limits=DecodeLimits(**document.limits.model_dump()),
        options=StoreOptions(**document.store.model_dump()),
        compute=document.compute,
        document=value,
    )


def _build(entry: Any, table: Mapping[str, type[Any]], where: _Where, loc: tuple[Any, ...], noun: str) -> Any:
    """One `- name: {fields}` entry of a room as (its name in this recipe, its dataclass)."""
    if len(entry) != 1:
        raise RecipeError(f"{where(loc)}: each {noun} is one `- name: {{fields}}` entry; here are {len(entry)} keys")
    kind, fields = next(iter(entry.items()))
    if kind not in table:
        near = _nearest(kind, table)
        fix = f"did you mean {near}?" if near else f"there are: {', '.join(sorted(table))}"
        raise UnknownNameError(f"{where((*loc, kind))}: unknown {noun} {kind}", fix=fix)
    fields = dict(fields or {}) if isinstance(fields, dict | None) else fields
    if not isinstance(fields, dict):
        raise RecipeError(f"{where((*loc, kind))}: {kind} takes a mapping of fields, not {fields!r}")
    name = fields.pop("name", kind)
    if not isinstance(name, str) or not name.isidentifier():
        raise RecipeError(f"{where((*loc, kind))}: name {name!r} must be a word of letters, digits and _")
    cls = table[kind]
    if unknown := sorted(set(fields) - {field.name for field in dataclasses.fields(cls)}):
        names = [field.name for field in dataclasses.fields(cls)]
        raise _unknown_key(where((*loc, kind, unknown[0])), unknown[0], [*names, "name"], kind)
    try:
        return name, TypeAdapter(cls).validate_python(fields)
    except ValidationError as error:
        raise _explain(error, where, (*loc, kind), cls) from None


def _explain(error: ValidationError, where: _Where, prefix: tuple[Any, ...], cls: type[Any]) -> RecipeError:
    """One of pydantic's findings as one line with the fix: a misspelt key rather than the key it leaves missing."""
    first = min(error.errors(), key=lambda finding: finding["type"] != "extra_forbidden")
    loc = (*prefix, *(part for part in first["loc"] if part not in {"str", "list[str]"}))
    at, key = where(loc), ".".join(str(part) for part in loc[len(prefix) :])
    if first["type"] == "extra_forbidden":
        model: Any = cls
        for part in first["loc"][:-1]:
            model = model.model_fields[part].annotation
        return _unknown_key(at, str(first["loc"][-1]), list(model.model_fields), ".".join(map(str, first["loc"][:-1])))
    if first["type"] in {"missing", "missing_argument", "missing_keyword_only_argument"}:
        owner = f" of {prefix[-1]}" if prefix else ""
        return RecipeError(f"{at}: {key}{owner} is missing", fix=f"add `{key}: ...`")
    message = first["msg"].removeprefix("Value error, ")
    return RecipeError(f"{at}: {key or prefix[-1]}: {message[0].lower()}{message[1:]}")


def _unknown_key(at: str, key: str, valid: Sequence[str], owner: str) -> RecipeError:
    near = _nearest(key, valid)
    within = f" of {owner}" if owner else ""
    fix = f"did you mean {near}?" if near else f"valid keys{within}: {', '.join(sorted(valid))}"
    return RecipeError(f"{at}: unknown key {key}{within}", fix=fix)


def _nearest(word: Any, among: Any) -> str:
    return next(iter(get_close_matches(str(word), list(among), 1, 0.5)), "")


@dataclasses.dataclass(frozen=True)
class _Where:
    """`file:line` of a location in the document; of the nearest parent when the location isn't written there."""

    name: str
    lines: Mapping[tuple[Any, ...], int]

    def __call__(self, loc: tuple[Any, ...]) -> str:
        while loc and loc not in self.lines:
            loc = loc[:-1]
        return f"{self.name}:{self.lines[loc]}" if loc in self.lines else self.name


def _lines(node: yaml.Node | None) -> dict[tuple[Any, ...], int]:
    return dict(_walk(node, ())) if node is not None else {}


def _walk(node: yaml.Node, loc: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*loc, key.value), key.start_mark.line + 1
            yield from _walk(value, (*loc, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield (*loc, i), value.start_mark.line + 1
            yield from _walk(value, (*loc, i))


def _override(value: dict[str, Any], override: str) -> None:
    """Apply `a.b.2.c=value` to the parsed document; list entries by number or by their single key's name."""
    path, eq, text = override.partition("=")
    if not eq or not path:
        raise RecipeError(f"--set {override}: expected key=value", fix="for example --set shards.samples=1000")
    parts = path.split(".")
    target: Any = value
    for part in parts[:-1]:
        target = _entry(target, part, override) if isinstance(target, list) else target.setdefault(part, {})
    if not isinstance(target, dict):
        raise RecipeError(f"--set {override}: {'.'.join(parts[:-1])} is not a mapping")
    target[parts[-1]] = yaml.safe_load(text)


def _entry(entries: list[Any], part: str, override: str) -> Any:
    """The fields of a list's entry, `filters.top_fraction` or `filters.1`."""
    for i, entry in enumerate(entries):
        if isinstance(entry, dict) and len(entry) == 1 and (part in entry or part == str(i)):
            kind = next(iter(entry))
            entry[kind] = entry[kind] or {}
            return entry[kind]
    names = [name for entry in entries if isinstance(entry, dict) for name in entry]
    near = _nearest(part, names)
    fix = f"did you mean {near}?" if near else f"the list has {', '.join(names) or 'no entries'}"
    raise RecipeError(f"--set {override}: there is no {part} in the list", fix=fix)
