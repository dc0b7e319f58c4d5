"""Entries of a curation recipe: scorers and filters, built from their tables and checked against each other.

DuckDB would report some of these mistakes only once everything is scored, and others never: it orders strings as well
as numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from curation.core.errors import RecipeError, UnknownNameError, UserError, locating
from curation.filters import FILTERS, ComparingFilter, flat
from curation.filters.named import READABLE, NamedFilter, columns_needed
from curation.ledger import manifest_schema
from curation.ledger.score_tables import INDEX
from curation.ledger.score_values import TYPES, is_vector
from curation.recipes.sections import Reading
from curation.recipes.yaml_document import build_entry
from curation.recipes.yaml_overrides import nearest_name
from curation.scorers import INDEX_COLUMNS, SCORERS, Scorer, reads_of
from curation.shards.contents import FIELD
from curation.shards.images import Preprocess
from curation.shards.unit_reader import INDEX_SCHEMA

#: Column names of the index, the decision engine (its joined tables included), the manifest and exports of scores.
#: A score with one of these names would be ambiguous in the queries of filters.
TAKEN = frozenset(
    {*INDEX_SCHEMA.names, INDEX, "id", "unit", "bad", "bits", "block", "kept", "snapshot", "own"}
    | {"shard_key", "shard_etag"}
    | {*manifest_schema.schema({}).names}
)
MAX_INTEGER = (1 << 63) - 1  # whole number of the decision engine
_RENAME = "give one of them a `name:` of its own"
_FOREIGN = "ask the maintainer of its package to fix it, or remove it from the recipe"


def build_scorers(entries: Sequence[dict[str, Any]], reading: Reading) -> dict[str, Scorer]:
    """Build the section `scorers`: column name -> scorer, in the recipe's order. Raises `UserError`, with its place."""
    where = reading.where
    scorers: dict[str, Scorer] = {}
    for place, entry in enumerate(entries):
        at = where(("scorers", place))
        if index := [kind for kind in entry if kind in READABLE and kind not in SCORERS]:
            fix = f"remove it: filters can read these columns of every sample: {_join(READABLE)}"
            raise UnknownNameError(f"{at}: {index[0]} needs no scorer", fix=fix)
        name, scorer = build_entry(entry, SCORERS, where, ("scorers", place), "scorer")
        if name.lower() in {*map(str.lower, scorers), *TAKEN}:  # DuckDB ignores case
            twins = (where(("scorers", n)) for n, made in enumerate(scorers) if made.lower() == name.lower())
            other = next((f"the one at {twin}" for twin in twins), "one of Tutelage's own")
            raise RecipeError(f"{at}: two columns are called {name}, this and {other}", fix=_RENAME)
        with locating(f"{at}: scorer {name}"):
            kinds = _checked_columns(name, scorer)
        for column, kind in kinds.items():
            if str(kind) not in TYPES and not is_vector(kind):
                types = f"{', '.join(TYPES)}, or a vector"
                raise RecipeError(f"{at}: {column} has the type {kind}; columns have one of {types}", fix=_FOREIGN)
        scorers[name] = scorer
    return scorers


def build_filters(entries: Sequence[dict[str, Any]], reading: Reading) -> list[NamedFilter]:
    """Build the section `filters`, in the recipe's order. Raises `UserError`, with its place."""
    where = reading.where
    filters: list[NamedFilter] = []
    for place, entry in enumerate(entries):
        at = where(("filters", place))
        name, item = build_entry(entry, FILTERS, where, ("filters", place), "filter")
        twin = next((one for one in filters if one.name == name), None)
        if twin is not None and not reading.of_snapshot:  # their drops would be counted under one reason
            raise RecipeError(f"{at}: two filters are called {name}, this and the one at {twin.place}", fix=_RENAME)
        filters.append(NamedFilter(name, item, at))
    return filters


def check_filters(filters: Sequence[NamedFilter], scorers: Mapping[str, Scorer]) -> None:
    """Raise `UserError` for a filter that reads a column which doesn't exist or has an unsuitable type."""
    made = kinds_of(scorers)
    for item in filters:
        what = f"{item.place}: filter {item.name}"
        _check_fields(what, item, made)
        for column in columns_needed([item])[1]:
            if column not in made:
                near = nearest_name(column, made)
                fix = f"did you mean {near}?" if near else f"scores here: {_join(list(made))}"
                raise UnknownNameError(f"{what} reads the score {column}, which no scorer makes", fix=fix)
        for part in flat([item.filter]):
            for column in part.compared_columns() if isinstance(part, ComparingFilter) else ():
                if column not in scorers:
                    text = f"{what} compares {column}, which is not the whole column of a scorer"
                    raise RecipeError(text, fix=f"columns here: {_join(list(scorers))}")


def columns_of(name: str, scorer: Scorer) -> dict[str, pa.DataType]:
    """Return the columns, with types, that a scorer called `name` adds: one, or one for each part of a struct."""
    kind = scorer.values()
    return {f"{name}.{part.name}": part.type for part in kind} if pa.types.is_struct(kind) else {name: kind}


def kinds_of(scorers: Mapping[str, Scorer]) -> dict[str, pa.DataType]:
    """Return all columns that these scorers add, with their types."""
    return {column: kind for name, scorer in scorers.items() for column, kind in columns_of(name, scorer).items()}


def _checked_columns(name: str, scorer: Scorer) -> dict[str, pa.DataType]:
    """`columns_of`, once the scorer has accepted its files and models.

    Raises `UserError`, also for an exception in the code of another package.
    """
    try:
        scorer.files()
        scorer.identity()
        _check_types(scorer, "views", list(scorer.views()), Preprocess)
        _check_types(scorer, "values", [scorer.values()], pa.DataType)
        _check_reads(scorer)
        return columns_of(name, scorer)
    except UserError:
        raise
    except Exception as error:
        if type(scorer).__module__.startswith("curation."):
            raise
        text = f"{type(scorer).__name__} fails: {type(error).__name__}: {error}"
        raise UserError(text, fix=_FOREIGN) from error


def _check_types(scorer: Scorer, method: str, values: Sequence[Any], kind: type[Any]) -> None:
    for value in values:
        if not isinstance(value, kind):
            text = f"{method}() of {type(scorer).__name__} returns {type(value).__name__} instead of {kind.__name__}"
            raise UserError(text, fix=_FOREIGN)


def _check_reads(scorer: Scorer) -> None:
    for name in reads_of(scorer):
        if name not in INDEX_COLUMNS and not (name.startswith(FIELD) and name != FIELD):
            text = f"{type(scorer).__name__} reads the column {name!r}, which no sample has"
            raise UserError(text, fix=f"one of {_join(INDEX_COLUMNS)}, or json.<field>")


def _check_fields(what: str, item: NamedFilter, made: Mapping[str, pa.DataType]) -> None:
    """Check the fields of a filter, and of filters within it, that name a column. `made`: the scorers' columns."""
    kinds = {**{name: INDEX_SCHEMA.field(name).type for name in READABLE}, **made}
    for column in columns_needed([item])[0]:
        if column not in kinds:
            raise RecipeError(f"{what} reads {column}, which is for the engine", fix=f"of the index: {_join(READABLE)}")
    for part in flat([item.filter]):
        for field, value in vars(part).items():
            if isinstance(value, int) and abs(value) > MAX_INTEGER:
                raise RecipeError(f"{what}: {field} is {value}", fix=f"a whole number is at most {MAX_INTEGER:,}")
            if isinstance(value, str) and value in kinds:
                _check_column(f"{what}: {field}: {value}", field, value, kinds, made)


def _check_column(
    what: str, field: str, column: str, kinds: Mapping[str, pa.DataType], made: Mapping[str, pa.DataType]
) -> None:
    """Check the type of a column that a filter's field names. `kinds`: all columns, `made`: those of scorers."""
    numbers = [name for name, kind in kinds.items() if _is_number(kind)]
    hashes = [name for name, kind in made.items() if kind == pa.int64()]
    if field in {"score", "prefer"} and column not in numbers:
        raise RecipeError(f"{what} is not a number", fix=f"numbers here: {_join(numbers)}")
    if field == "hash" and column not in hashes:
        raise RecipeError(f"{what} is not a hash of images", fix=f"hashes here: {_join(hashes)}")
    if field == "column" and pa.types.is_floating(kinds[column]):
        raise RecipeError(f"{what} has another value for each sample", fix="use the filter threshold")
    if field == "column" and is_vector(kinds[column]):
        others = [name for name, kind in kinds.items() if not is_vector(kind)]
        raise RecipeError(f"{what} is a vector", fix=f"strings and numbers here: {_join(others)}")


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _join(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
