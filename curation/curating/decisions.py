"""Run the filters over the loaded samples, and record which samples they drop and why.

The filters' queries cost about 0.2 us a sample each, and duplicates up to 0.8 GB of memory beside the engine's limit.
What is decided spills to local disk. Nothing here moves image bytes or runs a model, so asking "what if" is as cheap as
deciding.

Order of precedence: quarantined (unreadable, or a score that isn't finite); an edit that drops; the first filter that
drops; a recipe's list `weights:` that doesn't hold the sample. A usable sample that an edit keeps is kept, whatever
filters and weights say. The sample weight of a kept sample comes from an edit; without one, it is the product of the
weights that filters give it (`filters.WeightingFilter`), or 1. A sample that an edit keeps weighs 1 unless an edit
gives it another weight.

Filters see captions, labels and scores as they are in the corpus: edits that replace a value apply to what is written.
Only the column `origin` includes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from curation.core.errors import RecipeError
from curation.core.origins import CAPTIONED, ORIGINS, RELABELLED
from curation.curating import groups
from curation.curating.sample_pool import SamplePool, too_little
from curation.filters import ComparingFilter, DuplicateFilter, PreparingFilter, WeightingFilter, flat, kind_of
from curation.filters.named import NamedFilter
from curation.ledger.edit_lists import CAPTION
from curation.ledger.recipe_edits import RecipeEdits
from curation.storage.tables import text as _text

LISTS = -1  # the place, among filters, of edits and of lists of weights
NO_EDITS = RecipeEdits()
# A set of samples as bits, 65,536 samples a row in the order of their ids: to pass over what is in it, or what is not,
# takes a fifth of the time of a join with the ids.
_BLOCK, _BIT = "id >> 16", "(id & 65535)::INTEGER"
BITS = f"SELECT {_BLOCK} AS block, bitstring_agg({_BIT}, 0, 65535) AS bits"  # FROM what has ids GROUP BY block
IN_SET, NOT_IN_SET = f"get_bit(gone.bits, {_BIT}) = 1", f"coalesce(get_bit(gone.bits, {_BIT}), 0) = 0"
_WITH = "SELECT id FROM decided.edits WHERE verb = '%s'"  # the samples with an edit of this verb
OF_BLOCK = f"ON {_BLOCK} = gone.block"  # JOIN such a table, called gone; LEFT JOIN it for what is not in it


class Decisions(SamplePool):
    """One decision over one plan: a pool of samples and what filters say about them (schema `decided`)."""

    def _prepare(self) -> None:
        super()._prepare()
        # What is decided is kept beside the file: it spills as well, and is neither compressed nor logged.
        self.db.execute("ATTACH ':memory:' AS decided")
        self.clear()

    def clear(self) -> None:
        """Delete the decisions; the loaded columns stay."""
        matched = "filter VARCHAR, against VARCHAR, id BIGINT, how VARCHAR, other VARCHAR, value DOUBLE"
        self.db.execute(f"""
            CREATE OR REPLACE TABLE decided.dropped (id BIGINT, reason VARCHAR, place SMALLINT);
            CREATE OR REPLACE TABLE decided.rescued (id BIGINT);
            CREATE OR REPLACE TABLE decided.matched ({matched});
            CREATE OR REPLACE TABLE decided.weighed (id BIGINT, weight DOUBLE);
            CREATE OR REPLACE TABLE decided.gone (block BIGINT, bits BIT);
            CREATE OR REPLACE TABLE decided.edits
            (id BIGINT, verb VARCHAR, field VARCHAR, value VARCHAR, "by" VARCHAR, at_run VARCHAR, "from" VARCHAR);
            CREATE OR REPLACE TABLE decided.unknown (uid VARCHAR);
            DROP VIEW IF EXISTS alive""")
        groups.make_table(self.db, "decided.grouped")

    def decide(self, filters: Sequence[NamedFilter], edits: RecipeEdits = NO_EDITS) -> None:
        """Run the filters in order, and the edits that override them."""
        self.check_uids()
        if edits:
            self._load_edits(edits)
        self._drop(
            f"SELECT id, 'drop_list' AS reason FROM pool SEMI JOIN ({_WITH % 'drop'}) USING (id) WHERE bad IS NULL"
        )
        columns, replaced = self._columns(edits)
        self.db.execute(
            f"CREATE VIEW alive AS SELECT {columns} FROM pool LEFT JOIN decided.gone {OF_BLOCK} {replaced} "
            f"WHERE {NOT_IN_SET} AND bad IS NULL"
        )
        for place, item in enumerate(filters):
            try:
                self._filter(item, place)
            except duckdb.Error as error:
                self.raise_if_full(f"filter {item.name}", error)
                kinds = self.scores | dict.fromkeys(self.vectors, "vectors")
                if explained := _explained(error, item, kinds, self.memory):
                    raise explained from None
                error.add_note(f"in filter {item.name}")
                raise
        if edits:
            self._weigh(only_weighted=edits.only_weighted)
            rescued = (
                f"SELECT id FROM pool SEMI JOIN ({_WITH % 'keep'}) USING (id) SEMI JOIN decided.dropped USING (id)"
            )
            self.db.execute(f"INSERT INTO decided.rescued {rescued}")
            self._mark_gone()

    def _load_edits(self, edits: RecipeEdits) -> None:
        """Make the tables of the edits of loaded samples, and of uids that no loaded sample has."""
        self.db.register("incoming", edits.table)
        self.db.execute(
            "INSERT INTO decided.edits "
            'SELECT id, i.verb, i.field, i.value, i."by", i.at_run, i."from" FROM pool JOIN incoming i USING (uid)'
        )
        self.db.execute("INSERT INTO decided.unknown SELECT DISTINCT uid FROM incoming ANTI JOIN pool USING (uid)")
        self.db.unregister("incoming")

    def _columns(self, edits: RecipeEdits) -> tuple[str, str]:
        """The columns of the view `alive`, and its join with the edits where filters read `origin`."""
        if not edits or "origin" not in self.index:
            return "pool.*", ""
        ranks = f"[{', '.join(map(_text, ORIGINS))}]"
        given = f"CASE WHEN bool_or(field = '{CAPTION}') THEN '{CAPTIONED}' ELSE '{RELABELLED}' END"
        replaced = f"SELECT id AS edited, {given} AS given FROM decided.edits WHERE verb = 'replace' GROUP BY id"
        rank = "coalesce(list_position({0}, {1}), 1)"
        place = f"greatest({rank.format(ranks, 'pool.origin')}, {rank.format(ranks, 'changed.given')})"
        return (
            f"pool.* REPLACE ({ranks}[{place}] AS origin)",
            f"LEFT JOIN ({replaced}) AS changed ON changed.edited = pool.id",
        )

    def _filter(self, item: NamedFilter, place: int) -> None:
        """Run one filter: record its drops, sample weights, groups and matches. place: its position in the recipe."""
        if isinstance(item.filter, PreparingFilter):
            item.filter.prepare(self.db)
        copies = isinstance(item.filter, DuplicateFilter)
        query = item.filter.copies() if isinstance(item.filter, DuplicateFilter) else item.filter.drops()
        self.db.execute(
            "CREATE TEMP TABLE leaving AS SELECT id, CASE WHEN detail = '' THEN $name ELSE $name || '.' || detail "
            f"END AS reason{', stays' if copies else ''} FROM ({query})",
            {"name": item.name},
        )
        if isinstance(item.filter, WeightingFilter) and (weighs := item.filter.weighs()):
            sure = _WITH % "keep"
            self._multiply(f"SELECT * FROM ({weighs}) ANTI JOIN leaving USING (id) ANTI JOIN ({sure}) USING (id)")
        self._group(item, place)
        self._drop("SELECT id, reason FROM leaving", place)
        for part in flat([item.filter]):
            if isinstance(part, ComparingFilter):
                self.db.execute(
                    "INSERT INTO decided.matched SELECT $name, $against[snapshot + 1], * EXCLUDE (snapshot) FROM "
                    f"({part.matches()}) SEMI JOIN leaving USING (id)",
                    {"name": item.name, "against": list(part.against)},
                )
        self.db.execute("DROP TABLE leaving")

    def _group(self, item: NamedFilter, place: int) -> None:
        """Record the largest groups of duplicates that a filter drops, or that the filters inside it drop."""
        for part in flat([item.filter]):
            if part is item.filter and isinstance(part, DuplicateFilter):
                groups.collect(self.db, "decided.grouped", place, item.name, "leaving")
            elif isinstance(part, DuplicateFilter):
                copies = f"SELECT id, stays FROM ({part.copies()}) SEMI JOIN leaving USING (id)"
                self.db.execute(f"CREATE TEMP TABLE copies_leaving AS {copies}")
                groups.collect(self.db, "decided.grouped", place, item.name, "copies_leaving")
                self.db.execute("DROP TABLE copies_leaving")

    def _drop(self, query: str, place: int = LISTS) -> None:
        """Record the drops of a query with the columns `id, reason`."""
        self.db.execute(f"INSERT INTO decided.dropped SELECT id, reason, {place} FROM ({query})")
        self._mark_gone()

    def _mark_gone(self) -> None:
        """Update the set of samples that are dropped and not rescued; the view `alive` has the others."""
        gone = f"{BITS} FROM decided.dropped ANTI JOIN decided.rescued USING (id) GROUP BY block"
        self.db.execute(f"CREATE OR REPLACE TABLE decided.gone AS {gone}")

    def _weigh(self, *, only_weighted: bool) -> None:
        """Apply the edits' weights, which replace those of filters; `only_weighted`: drop samples without one.

        The weights of a data policy already include those of its snapshot.
        """
        if only_weighted:
            self._drop(f"SELECT id, 'weights' AS reason FROM alive ANTI JOIN ({_WITH % 'weight'}) USING (id)")
            self.db.execute("DELETE FROM decided.weighed")
        self.db.execute(f"DELETE FROM decided.weighed WHERE id IN ({_WITH % 'weight'})")
        listed = "SELECT id, value::FLOAT::DOUBLE AS weight FROM decided.edits WHERE verb = 'weight'"
        self.db.execute(f"INSERT INTO decided.weighed {listed}")

    def _multiply(self, weights: str) -> None:
        """Multiply the sample weights by those of a query: `id, weight`, each id once. Other samples keep theirs."""
        self.db.execute(f"""
            CREATE TABLE decided.product AS
            SELECT id, coalesce(w.weight, 1) * coalesce(f.weight, 1) AS weight
            FROM decided.weighed w FULL JOIN ({weights}) f USING (id)""")
        self.db.execute("DROP TABLE decided.weighed; ALTER TABLE decided.product RENAME TO weighed")


def _explained(error: duckdb.Error, item: NamedFilter, kinds: Mapping[str, Any], memory: str) -> RecipeError | None:
    """Return a failed query as an error for the recipe's author, or None if no recipe can avoid it.

    kinds: types of scores.
    """
    line, name = str(error).splitlines()[0], item.name
    if isinstance(error, duckdb.OutOfMemoryException):
        return too_little(f"filter {name}", memory, error)
    fix = f"curate rooms filters {kind_of(item.filter) or name} lists the types that it takes"
    if isinstance(error, duckdb.BinderException):
        read = ", ".join(f"{column} ({kinds[column]})" for column in item.filter.columns() if column in kinds)
        return RecipeError(f"filter {name} can't read its columns, of another kind than it takes: {read}", fix=fix)
    if isinstance(error, duckdb.DataError | duckdb.ProgrammingError):
        return RecipeError(f"filter {name} can't compute with its settings and columns: {line}", fix=fix)
    return None
