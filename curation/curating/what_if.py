"""What would other filters keep? Answers from score tables alone: nothing is scored, no byte is moved.

All settings are asked of one loaded engine (`decisions.Decisions`), so a second one costs its filters and no reading.
Filters of 0.2 us a sample included, an answer takes some 0.3 us of CPU a sample, and to compare with a snapshot 0.3 us
once (10 million samples). To load the engine, once before all answers, takes ten times that: 3 us.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from curation.core.errors import ConservationError
from curation.core.words import SPACE, WORD
from curation.curating import decision_results
from curation.curating.decisions import BITS, IN_SET, LISTS, NO_EDITS, OF_BLOCK, Decisions
from curation.curating.groups import GroupExample
from curation.filters import Filter, NotOf, ScoreCuttingFilter
from curation.filters.named import NamedFilter
from curation.ledger.recipe_edits import RecipeEdits
from curation.shards.unit_reader import INDEX_SCHEMA

NEAR = 3  # examples on either side of a limit
MOST_GROUPS = 8  # groups that a shift reports


@dataclass(frozen=True)
class FilterStep:
    """One filter of a setting: how many samples reached it, and how many it kept."""

    filter: str
    reached: int
    kept: int

    @property
    def rate(self) -> float:
        """Its marginal keep rate: of what the filters before it left."""
        return self.kept / self.reached if self.reached else 1.0


@dataclass(frozen=True)
class WhatIfAnswer:
    """What one setting comes to. Shares are from 0 to 1; `overlap` is None where there is no snapshot."""

    setting: str
    samples: Mapping[str, Any]  # seen, kept, filtered, quarantined
    steps: Sequence[FilterStep]
    overlap: Mapping[str, Any] | None = None
    shifts: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    near: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    groups: Sequence[GroupExample] = ()  # the largest ones of duplicates, of every filter that has such
    refused: Sequence[str] = ()  # why `curate run` would make no snapshot of it, if so

    def to_json(self) -> dict[str, Any]:
        steps = [{**asdict(step), "rate": step.rate} for step in self.steps]
        return {**asdict(self), "steps": steps, "groups": [group.to_json() for group in self.groups]}


# Words as scorers and filters count them (`words`). Most captions are plain: ASCII, with single spaces and no other
# white space. There words are one more than the bytes in which the caption agrees with as many spaces, which takes a
# sixth of the time of the pattern that counts them in the others.
_SPACES = " " * 1000
_OTHERS = " OR ".join(
    [
        f"strlen(caption) NOT BETWEEN 1 AND {len(_SPACES)} OR strlen(caption) <> length(caption)",
        *(f"contains(caption, chr({ord(space)}))" for space in SPACE if space.isascii() and space != " "),
        r"regexp_matches(caption, '[\x00-\x08\x0e-\x1b\x7f]')",  # alone, they are no words
        "starts_with(caption, ' ') OR ends_with(caption, ' ') OR contains(caption, '  ')",
    ]
)
_WORDS = f"""least(5, CASE WHEN {_OTHERS} THEN len(regexp_extract_all(caption, '{WORD}'))
    ELSE 1 + strlen(caption) - hamming(caption, substr('{_SPACES}', 1, strlen(caption))) END // 4)"""

#: For the engine to make while it loads captions (0.3 us each; 2 where not plain), or else the first answer does.
MADE = {"caption words / 4": _WORDS}


class WhatIf:
    """Settings of filters over one loaded engine. `kept`: the uids that a snapshot keeps, to compare with.

    Facts that no setting changes are computed once: the samples that the snapshot keeps, and the largest groups of all
    usable samples. An answer costs its filters, a pass over the samples and some passes over the kept ones.
    """

    def __init__(self, engine: Decisions, kept: pa.RecordBatchReader | None = None) -> None:
        self.engine = engine
        self.was = self._snapshot(kept)
        (self.usable,) = self._one("SELECT count(*) FROM pool WHERE bad IS NULL")
        self.kinds = self._kinds()

    def _snapshot(self, kept: pa.RecordBatchReader | None) -> int | None:
        """Make the set of samples that the snapshot keeps; how many it keeps, in this corpus or not."""
        if kept is None:
            return None
        db = self.engine.db
        db.register("incoming", kept)
        db.execute("CREATE TEMP TABLE snapshot_kept AS SELECT uid FROM incoming WHERE decision = 'kept'")
        db.unregister("incoming")
        found = "FROM pool SEMI JOIN snapshot_kept USING (uid) WHERE bad IS NULL"
        db.execute(f"CREATE OR REPLACE TEMP TABLE was_kept AS {BITS} {found} GROUP BY block")
        (was,) = self._one("SELECT count(*) FROM snapshot_kept")
        db.execute("DROP TABLE snapshot_kept")
        return int(was)

    def _kinds(self) -> dict[str, str]:
        """What says what kind a sample is: name -> SQL of the pool. Makes a table of the largest groups of each."""
        scores = self.engine.scores
        kinds = {name: (f'"{name}"', "value") for name, kind in scores.items() if pa.types.is_string(kind)}
        kinds |= {name: (f'"{name}"', "value::BIGINT::VARCHAR") for name in scores if name.split(".")[-1] == "cluster"}
        if "caption" in self.engine.index:
            ((made, sql),) = MADE.items()
            shown = "(4 * value) || CASE WHEN value = 5 THEN '+' ELSE '-' || (4 * value + 3) END"
            kinds = {"caption_words": (f'"{made}"' if made in self.engine.made else sql, shown), **kinds}
        for place, (sql, shown) in enumerate(kinds.values()):
            self.engine.db.execute(f"""
                CREATE OR REPLACE TEMP TABLE groups_{place} AS SELECT value, {shown} AS shown, n
                FROM (SELECT {sql} AS value, count(*) AS n FROM pool WHERE bad IS NULL GROUP BY 1)
                ORDER BY n DESC, shown LIMIT {MOST_GROUPS}""")
        return {name: sql for name, (sql, _) in kinds.items()}

    def ask(self, setting: str, filters: Sequence[NamedFilter], edits: RecipeEdits = NO_EDITS) -> WhatIfAnswer:
        """Return what these filters and edits would do. Raises `ConservationError`."""
        self.engine.clear()
        self.engine.decide(filters, edits)
        cuts = [(name, place, cut) for place, item in enumerate(filters) for name, cut in self._cuts(item)]
        columns = [f'{sql} AS "kind {place}"' for place, sql in enumerate(self.kinds.values())]
        columns = ["id", *columns, *(f'"{score}"' for score in sorted({cut.score for _, _, cut in cuts}))]
        self.engine.db.execute(f"CREATE OR REPLACE TEMP TABLE kept AS SELECT {', '.join(columns)} FROM alive")
        drops = decision_results.drop_counts(self.engine)
        samples = decision_results.totals(self.engine, drops)
        (kept,) = self._one("SELECT count(*) FROM kept")
        if kept != samples["kept"]:
            raise ConservationError(f"{setting}: {kept} samples are kept, but {samples['kept']} by the drops' reasons")
        steps = self._steps(_told_apart([item.name for item in filters]), drops)
        examples = [self._near(filters[place], place, cut) for _, place, cut in cuts]
        near = dict(zip(_told_apart([name for name, _, _ in cuts]), examples, strict=True))
        groups = decision_results.duplicate_groups(self.engine)
        return WhatIfAnswer(setting, samples, steps, self._overlap(kept), self._shifts(kept), near, groups)

    def _cuts(self, item: NamedFilter) -> Iterator[tuple[str, ScoreCuttingFilter]]:
        """The filter, or its parts, that cut a column of numbers that was loaded; by names for a reader."""
        kinds = {name: INDEX_SCHEMA.field(name).type for name in self.engine.index} | self.engine.scores
        for cut in _cutting(item.filter):
            kind = kinds.get(cut.score, pa.null())
            if pa.types.is_integer(kind) or pa.types.is_floating(kind):
                yield (item.name if cut is item.filter else f"{item.name}: {cut.score}"), cut

    def _steps(self, names: Sequence[str], drops: Mapping[tuple[int, str], int]) -> list[FilterStep]:
        reached = self.usable - drops.get((LISTS, "drop_list"), 0)
        steps = []
        for place, name in enumerate(names):
            kept = reached - sum(count for (one, _), count in drops.items() if one == place)
            steps.append(FilterStep(name, reached, kept))
            reached = kept
        return steps

    def _overlap(self, now: int) -> dict[str, Any] | None:
        if self.was is None:
            return None
        (both,) = self._one("""
            SELECT coalesce(sum(bit_count(CASE WHEN gone.bits IS NULL THEN was.bits ELSE was.bits & ~gone.bits END)), 0)
            FROM was_kept AS was LEFT JOIN decided.gone USING (block)""")
        either = self.was + now - both
        share = both / either if either else 1.0
        return {"in_both": both, "entering": now - both, "leaving": self.was - both, "jaccard": share}

    def _shifts(self, kept: int) -> dict[str, list[dict[str, Any]]]:
        """How the kept differ from all that can be used, by every column that says what kind a sample is: in the order
        of its numbers, or of how many there are, and then all others together."""
        found = {}
        for place, name in enumerate(self.kinds):
            rows = self.engine.db.execute(f"""
                SELECT shown, n, coalesce(k, 0) FROM groups_{place} AS g
                LEFT JOIN (SELECT "kind {place}" AS value, count(*) AS k FROM kept GROUP BY 1) AS now
                ON now.value IS NOT DISTINCT FROM g.value
                ORDER BY {"g.value" if name == "caption_words" else "n DESC, shown"}""").fetchall()
            all_, now = (total - sum(row[column] for row in rows) for column, total in ((1, self.usable), (2, kept)))
            rows += [("(others)", all_, now)] if all_ else []
            found[name] = [
                {"group": group, "of_all": n / self.usable, "of_kept": k / max(1, kept)} for group, n, k in rows
            ]
        return found

    def _near(self, item: NamedFilter, place: int, cut: ScoreCuttingFilter) -> list[dict[str, Any]]:
        """Around the limit of a filter, or of a part of one: of what it drops and of what stays, the nearest to it.

        Where the data decide the limit, the best that it drops, and the worst of those that stay and are no worse. Most
        samples are ruled out by the score alone; only for those that are not is the uid looked at.
        """
        score, limits = f'"{cut.score}"', cut.limits()
        caption = "caption" if "caption" in self.engine.index else "NULL"
        far_below, far_above, sides = (
            f"-{score}",
            score,
            f"WHERE {score} >= (SELECT coalesce(-min(far), '-inf') FROM below)",
        )
        if limits:
            far_below = far_above = f"least({', '.join(f'abs({score} - {limit!r}::FLOAT)' for limit in limits)})"
            sides = ""
        by_it = f"place = {place}"
        if cut is not item.filter:  # what is made of filters says which part drops a sample, unless no part alone does
            by_it += " AND reason IN ($name, $name || '.' || $score)"
        rows = self.engine.db.execute(
            f"""
            WITH gone AS MATERIALIZED (
                {BITS} FROM decided.dropped ANTI JOIN decided.rescued USING (id) WHERE {by_it} GROUP BY block
            ),
            below AS (SELECT id, {far_below} AS far FROM pool JOIN gone {OF_BLOCK} WHERE {IN_SET}),
            above AS (SELECT id, {far_above} AS far FROM kept {sides}),
            last_below AS (SELECT max(far) FROM (SELECT far FROM below ORDER BY far LIMIT {NEAR})),
            last_above AS (SELECT max(far) FROM (SELECT far FROM above ORDER BY far LIMIT {NEAR})),
            dropped AS (
                SELECT id FROM pool SEMI JOIN (SELECT id FROM below WHERE far <= (FROM last_below)) AS ties USING (id)
                ORDER BY {far_below}, uid LIMIT {NEAR}
            ),
            stays AS (
                SELECT id FROM pool SEMI JOIN (SELECT id FROM above WHERE far <= (FROM last_above)) AS ties USING (id)
                ORDER BY {far_above}, uid LIMIT {NEAR}
            )
            SELECT uid, {caption}, {score} AS s, near.kept FROM pool
            JOIN (SELECT id, false AS kept FROM dropped UNION ALL SELECT id, true FROM stays) AS near USING (id)
            ORDER BY s DESC, near.kept, uid""",
            {"name": item.name, "score": cut.score} if cut is not item.filter else {},
        ).fetchall()
        return [dict(zip(("uid", "caption", "score", "kept"), row, strict=True)) for row in rows]

    def _one(self, sql: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self.engine.db.execute(sql).fetchone()
        assert row is not None
        return row


def _cutting(item: Filter, contrary: bool = False) -> Iterator[ScoreCuttingFilter]:
    """The filter, or its parts, that cut a score; below a `not`, of a limit that the data decide the sides are others
    than those that are looked for, and it is left out."""
    if isinstance(item, ScoreCuttingFilter) and (item.limits() or not contrary):
        yield item
    for part in getattr(item, "of", ()):
        yield from _cutting(part, contrary or isinstance(item, NotOf))


def _told_apart(names: Sequence[str]) -> list[str]:
    """The names; a second one that is the same has its number behind it."""
    return [f"{name} ({n})" if (n := 1 + names[:place].count(name)) > 1 else name for place, name in enumerate(names)]
