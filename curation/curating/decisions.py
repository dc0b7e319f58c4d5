"""Run the filters over the loaded samples, and record which samples they drop and why.

The filters' queries cost about 0.2 us a sample each, and duplicates up to 0.8 GB of memory beside the engine's limit.
What is decided spills to local disk. Nothing here moves image bytes or runs a model, so asking "what if" is as cheap as
deciding.

Order of precedence: quarantined (unreadable, or a score that isn't finite); on the drop list; the first filter that
drops; a list of weights that doesn't hold the sample. A usable sample on the keep list is kept, whatever filters and
weights say. The sample weight of a kept sample comes from the list of weights; without one, it is the product of the
weights that filters give it (`filters.WeightingFilter`), or 1. A sample of the keep list weighs 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from curation.core.errors import RecipeError
from curation.curating import groups
from curation.curating.sample_pool import SamplePool, too_little
from curation.filters import ComparingFilter, DuplicateFilter, PreparingFilter, WeightingFilter, flat, kind_of
from curation.filters.named import NamedFilter

LISTS = -1  # the place, among filters, of the lists of uids and of weights
# A set of samples as bits, 65,536 samples a row in the order of their ids: to pass over what is in it, or what is not,
# takes a fifth of the time of a join with the ids.
_BLOCK, _BIT = "id >> 16", "(id & 65535)::INTEGER"
BITS = f"SELECT {_BLOCK} AS block, bitstring_agg({_BIT}, 0, 65535) AS bits"  # FROM what has ids GROUP BY block
IN_SET, NOT_IN_SET = f"get_bit(gone.bits, {_BIT}) = 1", f"coalesce(get_bit(gone.bits, {_BIT}), 0) = 0"
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
            DROP VIEW IF EXISTS alive; DROP TABLE IF EXISTS keep_list; DROP TABLE IF EXISTS drop_list""")
        groups.make_table(self.db, "decided.grouped")

    def decide(
        self,
        filters: Sequence[NamedFilter],
        keep: pa.Array | None = None,
        drop: pa.Array | None = None,
        weights: pa.Table | None = None,
    ) -> None:
        """Run the filters in order, and the lists of uids that override them. weights: uid, weight (float32)."""
        self.check_uids()
        self._list("keep_list", keep)
        self._list("drop_list", drop)
        both = self.db.execute("SELECT uid FROM keep_list SEMI JOIN drop_list USING (uid) LIMIT 1").fetchall()
        if both:
            raise RecipeError(
                f"uid {both[0][0]} is on the keep list and on the drop list", fix="take it off one of them"
            )
        self._drop("SELECT id, 'drop_list' AS reason FROM pool SEMI JOIN drop_list USING (uid) WHERE bad IS NULL")
        self.db.execute(
            "CREATE VIEW alive AS "
            f"SELECT pool.* FROM pool LEFT JOIN decided.gone {OF_BLOCK} WHERE {NOT_IN_SET} AND bad IS NULL"
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
        self._weigh(weights)
        self.db.execute(
            "INSERT INTO decided.rescued "
            "SELECT id FROM pool SEMI JOIN keep_list USING (uid) SEMI JOIN decided.dropped USING (id)"
        )
        if keep is not None:
            self._mark_gone()

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
            sure = "SELECT id FROM pool SEMI JOIN keep_list USING (uid)"
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

    def _weigh(self, weights: pa.Table | None) -> None:
        """Apply a list of weights: drop the samples that it lacks; its weights replace those of filters.

        The weights of a data policy already include those of its snapshot.
        """
        if weights is None:
            return
        self.db.register("incoming", weights)
        self.db.execute("CREATE TEMP TABLE listed AS SELECT id, weight FROM pool JOIN incoming USING (uid)")
        self.db.unregister("incoming")
        self._drop("SELECT id, 'weights' AS reason FROM alive ANTI JOIN listed USING (id)")
        self.db.execute("CREATE OR REPLACE TABLE decided.weighed AS SELECT id, weight::DOUBLE AS weight FROM listed")
        self.db.execute("DROP TABLE listed")

    def _multiply(self, weights: str) -> None:
        """Multiply the sample weights by those of a query: `id, weight`, each id once. Other samples keep theirs."""
        self.db.execute(f"""
            CREATE TABLE decided.product AS
            SELECT id, coalesce(w.weight, 1) * coalesce(f.weight, 1) AS weight
            FROM decided.weighed w FULL JOIN ({weights}) f USING (id)""")
        self.db.execute("DROP TABLE decided.weighed; ALTER TABLE decided.product RENAME TO weighed")

    def _list(self, name: str, uids: pa.Array | None) -> None:
        table = pa.table({"uid": pa.array([], pa.string()) if uids is None else uids})
        self.db.register("incoming", table)
        self.db.execute(f"CREATE TEMP TABLE {name} AS SELECT DISTINCT uid FROM incoming")
        self.db.unregister("incoming")


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
