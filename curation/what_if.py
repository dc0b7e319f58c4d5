"""What would other filters keep? Answers from score tables alone: nothing is scored, no byte is moved.

All settings are asked of one loaded engine (`decisions.Decisions`), so a second one costs its filters and no reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from curation.decisions import Decisions, NamedFilter

NEAR = 3  # examples on either side of a limit
MOST_GROUPS = 8  # of a shift that are told


@dataclass(frozen=True)
class Step:
    """One filter of a setting: how many samples reached it, and how many it kept."""

    filter: str
    reached: int
    kept: int

    @property
    def rate(self) -> float:
        """Its marginal keep rate: of what the filters before it left."""
        return self.kept / self.reached if self.reached else 1.0


@dataclass(frozen=True)
class Answer:
    """What one setting comes to. Shares are from 0 to 1; `overlap` is None where there is no snapshot."""

    setting: str
    samples: Mapping[str, Any]  # seen, kept, filtered, quarantined
    steps: Sequence[Step]
    overlap: Mapping[str, Any] | None = None
    shifts: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    near: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        steps = [{**asdict(step), "rate": step.rate} for step in self.steps]
        return {**asdict(self), "steps": steps}


_KEEPING = """
    CREATE OR REPLACE TEMP VIEW keeping AS SELECT pool.* FROM pool
    ANTI JOIN (SELECT id FROM dropped ANTI JOIN rescued USING (id)) AS gone USING (id) WHERE bad IS NULL"""


class WhatIf:
    """Settings of filters over one loaded engine. `kept`: the uids that a snapshot keeps, to compare with."""

    def __init__(self, engine: Decisions, kept: pa.RecordBatchReader | None = None) -> None:
        self.engine = engine
        self.compared = kept is not None
        if kept is not None:
            engine.db.register("incoming", kept)
            engine.db.execute("CREATE TABLE snapshot_kept AS SELECT uid FROM incoming WHERE decision = 'kept'")
            engine.db.unregister("incoming")

    def ask(self, setting: str, filters: Sequence[NamedFilter], **lists: Any) -> Answer:
        """What these filters would do; `lists` as `Decisions.decide` takes them."""
        self.engine.clear()
        self.engine.decide(filters, **lists)
        self.engine.db.execute(_KEEPING)
        samples = self.engine.totals()
        return Answer(setting, samples, self._steps(filters), self._overlap(), self._shifts(), self._near(filters))

    def _steps(self, filters: Sequence[NamedFilter]) -> list[Step]:
        rows = self.engine.db.execute("SELECT split_part(reason, '.', 1), count(*) FROM dropped GROUP BY 1").fetchall()
        dropped = dict(rows)
        (reached,) = self._one("SELECT count(*) FROM pool WHERE bad IS NULL")
        reached -= dropped.get("drop_list", 0)
        steps = []
        for item in filters:
            kept = reached - dropped.get(item.name, 0)
            steps.append(Step(item.name, reached, kept))
            reached = kept
        return steps

    def _overlap(self) -> dict[str, Any] | None:
        if not self.compared:
            return None
        (was,) = self._one("SELECT count(*) FROM snapshot_kept")
        (now,) = self._one("SELECT count(*) FROM keeping")
        (both,) = self._one("SELECT count(*) FROM keeping SEMI JOIN snapshot_kept USING (uid)")
        either = was + now - both
        share = both / either if either else 1.0
        return {"in_both": both, "entering": now - both, "leaving": was - both, "jaccard": share}

    def _shifts(self) -> dict[str, list[dict[str, Any]]]:
        """How the kept differ from all that can be used, by every column that says what kind a sample is."""
        by = {}
        if "caption" in self.engine.index:
            words = "least(5, len(regexp_split_to_array(trim(caption), '\\s+')) // 4)"
            by["caption_words"] = f"(4 * {words})::VARCHAR || CASE WHEN {words} = 5 THEN '+' ELSE '' END"
        by |= {name: f'"{name}"' for name, kind in self.engine.scores.items() if pa.types.is_string(kind)}
        by |= {name: f'"{name}"::BIGINT' for name in self.engine.scores if name.split(".")[-1] == "cluster"}
        return {name: self._shift(sql) for name, sql in by.items()}

    def _shift(self, sql: str) -> list[dict[str, Any]]:
        rows = self.engine.db.execute(f"""
            SELECT g, a / sum(a) OVER (), coalesce(k, 0) / greatest(sum(coalesce(k, 0)) OVER (), 1) FROM
                (SELECT {sql} AS g, count(*) AS a FROM pool WHERE bad IS NULL GROUP BY 1)
                LEFT JOIN (SELECT {sql} AS g, count(*) AS k FROM keeping GROUP BY 1) USING (g)
            ORDER BY 2 DESC, 1 LIMIT {MOST_GROUPS}""").fetchall()
        return [{"group": group, "of_all": was, "of_kept": now} for group, was, now in rows]

    def _near(self, filters: Sequence[NamedFilter]) -> dict[str, list[dict[str, Any]]]:
        """Around the limit of every filter that reads one score: the best that it drops, the worst that stay."""
        found = {}
        caption = "caption" if "caption" in self.engine.index else "NULL"
        for item in filters:
            score = getattr(item.filter, "score", None)
            if score not in self.engine.scores:
                continue
            select = f'SELECT uid, {caption} AS caption, "{score}" AS score'
            drops = f"{select}, false AS kept FROM pool JOIN dropped USING (id) WHERE split_part(reason, '.', 1) = ?"
            rows = self.engine.db.execute(
                f"(SELECT * FROM ({drops}) ORDER BY score DESC, uid LIMIT {NEAR}) UNION ALL "
                f"(SELECT * FROM ({select}, true AS kept FROM keeping) ORDER BY score, uid LIMIT {NEAR})",
                [item.name],
            ).fetchall()
            names = ("uid", "caption", "score", "kept")
            named = (dict(zip(names, row, strict=True)) for row in rows)
            found[item.name] = sorted(named, key=lambda row: -row["score"])
        return found

    def _one(self, sql: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self.engine.db.execute(sql).fetchone()
        assert row is not None
        return row
