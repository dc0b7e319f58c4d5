"""The samples that a recipe's filters keep, ranked by a priority or a score: what a review queue asks about.

Reads score tables alone; scores nothing and writes nothing. Costs the decision (3 us a sample), one query for the
highest `most`, and a read of the index, and of the column of probabilities, for each unit that has one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from curation.core.errors import IncompleteError, UnknownNameError, UserError
from curation.core.parallel import map_ordered
from curation.core.progress import Tick
from curation.core.types import ShardRef
from curation.curating import plan_decision, planning
from curation.curating.decisions import Decisions
from curation.curating.pipeline import Pipeline
from curation.curating.record_spool import RecordSpool
from curation.filters import DoubtfulLabels, RankingFilter, ScoreCuttingFilter
from curation.ledger import score_tables, score_values
from curation.ledger.plans import Plan
from curation.review.documents import PosteriorPriority
from curation.scorers import ClassNamingScorer, Posterior
from curation.storage.tables import quote
from curation.storage.urls import absolute_url

RANKED_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("source_key", pa.string()),
        ("source_etag", pa.string()),
        ("source_offset", pa.int64()),
        ("source_length", pa.int64()),
        ("caption", pa.string()),
        ("priority", pa.float32()),
        ("posterior", pa.list_(pa.float32())),  # null without a column of probabilities
    ]
)


def ranking(work: Pipeline) -> str:
    """Return the name of the last filter if it gives priorities, or the score that it cuts at a rank.

    Raises `UserError` if it does neither.
    """
    last = work.recipe.filters[-1] if work.recipe.filters else None
    if last is not None and isinstance(last.filter, RankingFilter):
        return last.name
    if last is not None and isinstance(last.filter, ScoreCuttingFilter) and not last.filter.limits():
        return last.filter.score
    fix = "name a score with --by, or end the recipe's filters with doubtful_labels, or a cut such as top_fraction"
    raise UserError("the recipe ranks no samples: its last filter has no priorities and cuts no rank", fix=fix)


def posterior_column(work: Pipeline) -> str | None:
    """Return the first score of the recipe that is a list of class probabilities; None without one."""
    for name, scorer in work.recipe.scorers.items():
        if isinstance(scorer, ClassNamingScorer) and score_values.is_vector(scorer.values()):
            return name
    return None


def posterior_classes(work: Pipeline, posterior: str) -> Sequence[str]:
    """Return the names of the classes of a score of probabilities, in its order; empty where its file names none."""
    scorer = work.recipe.scorers.get(posterior)
    return scorer.class_names(work.recipe.options) if isinstance(scorer, ClassNamingScorer) else ()


def reranking(work: Pipeline) -> dict[str, str]:
    """Return priority, model, weights and sha256 by which the items left of a queue can be ranked again.

    They are those of the last filter, `doubtful_labels`, and of the scorers that it reads. Raises `UserError` for
    another filter, and for priorities that follow from no classifiers.
    """
    last = work.recipe.filters[-1].filter if work.recipe.filters else None
    if not isinstance(last, DoubtfulLabels) or last.by not in get_args(PosteriorPriority):
        fix = f"end the recipe's filters with doubtful_labels, by {', '.join(get_args(PosteriorPriority))}"
        raise UserError("--every: the recipe ranks by no classifier that answers could improve", fix=fix)
    scorer = work.recipe.scorers.get(last.columns()[0])
    if not isinstance(scorer, Posterior) or scorer.weights is None or scorer.model is None:
        text = f"--every: the score {last.columns()[0]} comes from no classifiers of ours"
        raise UserError(text, fix="train them: curate proxy train --objective classes --folds 5")
    weights = absolute_url(scorer.weights)
    return {"priority": last.by, "model": scorer.model, "weights": weights, "sha256": scorer.sha256}


def ranked_samples(work: Pipeline, by: str, most: int, posterior: str | None, tick: Tick) -> pa.Table:
    """Return at most `most` samples that the filters keep, highest first, ties by uid (`RANKED_SCHEMA`).

    by: a score of the recipe, or the name of its last filter, whose priorities rank then. posterior: a score column of
    class probabilities to read for these samples. Raises `IncompleteError` if a shard has no scores, and
    `UnknownNameError` for a score that the recipe does not have.
    """
    last = work.recipe.filters[-1] if work.recipe.filters else None
    by_filter = last.filter if last is not None and last.name == by and isinstance(last.filter, RankingFilter) else None
    _expect_scores(work, None if by_filter is not None else by, posterior)
    plan = planning.make_plan(work, write=False)
    planning.recall_unreadable(work, plan)
    with closing(RecordSpool(work.spool / "found")) as records:
        missing = planning.missing_units(work, plan, records)
        if missing.num_rows:
            text = f"{missing.num_rows:,} of {plan.units:,} shards have no scores: they lack "
            text += ", ".join(planning.lacked_columns(missing))
            raise IncompleteError(text, fix="`curate run RECIPE` scores them")
        with plan_decision.decide(work, plan, tick, records.by_fingerprint()) as decided:
            engine = decided.engine
            top = _highest(engine, by, most) if by_filter is None else _most_urgent(engine, by_filter, most)
    return _with_places(work, plan, top, posterior)


def _expect_scores(work: Pipeline, by: str | None, posterior: str | None) -> None:
    names = [column.name for column in work.columns[1:]]
    for option, name in (("--by", by and by.partition(".")[0]), ("--posterior", posterior)):
        if name is not None and name not in names:
            text = f"{option}: the recipe has no score {name}"
            raise UnknownNameError(text, fix=f"choose one of: {', '.join(names) or '(it has none)'}")


def _highest(engine: Decisions, by: str, most: int) -> pa.Table:
    """Return unit, row, uid and priority of the kept samples with the highest score."""
    kind = engine.scores.get(by)
    if kind is None or not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        numbers = [name for name, one in engine.scores.items() if not pa.types.is_string(one)]
        raise UserError(f"{by} is not a column of numbers", fix=f"rank by one of: {', '.join(numbers) or '(none)'}")
    return engine.db.sql(
        f"SELECT unit, row, uid, {quote(by)}::FLOAT AS priority FROM alive ORDER BY {quote(by)} DESC, uid LIMIT $most",
        params={"most": most},
    ).to_arrow_table()


def _most_urgent(engine: Decisions, by: RankingFilter, most: int) -> pa.Table:
    """Return unit, row, uid and priority of the kept samples with the highest priority of a filter.

    The filter has run, so its priorities exist; those of the samples that it dropped left the view `alive`.
    """
    return engine.db.sql(
        f"SELECT unit, row, uid, priority::FLOAT AS priority FROM ({by.priorities()}) AS ranked "
        "JOIN (SELECT id, unit, row FROM alive) USING (id) ORDER BY ranked.priority DESC, uid LIMIT $most",
        params={"most": most},
    ).to_arrow_table()


def _with_places(work: Pipeline, plan: Plan, top: pa.Table, posterior: str | None) -> pa.Table:
    """Add source, caption and probabilities to ranked rows: one read of the index for each unit among them."""
    units, rows = (top.column(name).to_numpy() for name in ("unit", "row"))
    wanted = set(units.tolist())
    shards = ((n, shard) for n, shard in enumerate(plan.shards()) if n in wanted)
    column = next((column for column in work.columns if column.name == posterior), None)

    def one(item: tuple[int, ShardRef]) -> tuple[np.ndarray[Any, Any], pa.Table]:
        places = np.flatnonzero(units == item[0])
        return places, _rows_of(work, item[1], rows[places], column)

    found = list(map_ordered(one, shards))
    if not found:
        return RANKED_SCHEMA.empty_table()
    order = np.argsort(np.concatenate([places for places, _ in found]), kind="stable")
    joined = pa.concat_tables([table for _, table in found]).take(order)
    ranked = joined.append_column("uid", top.column("uid")).append_column("priority", top.column("priority"))
    return ranked.select(RANKED_SCHEMA.names).cast(RANKED_SCHEMA).combine_chunks()


def _rows_of(work: Pipeline, shard: ShardRef, rows: Sequence[int], column: score_tables.Column | None) -> pa.Table:
    """Return source, caption and probabilities of some rows of a unit."""
    index = score_tables.read(work.scored, shard, work.columns[0], ["offset", "length", "caption"]).take(rows)
    if column is None:
        probabilities = pa.nulls(len(rows), pa.list_(pa.float32()))
    else:
        values = score_tables.read(work.scored, shard, column, ["value"]).column("value")
        if not score_values.is_vector(values.type):
            text = f"--posterior: {column.name} is not a column of probabilities, but of {values.type}"
            raise UserError(text, fix="name a score whose values are lists, such as label_posterior")
        probabilities = values.take(rows).cast(pa.list_(values.type.value_type)).cast(pa.list_(pa.float32()))
    return pa.table(
        {
            "source_key": pa.array([shard.key] * len(rows), pa.string()),
            "source_etag": pa.array([shard.etag] * len(rows), pa.string()),
            "source_offset": index.column("offset"),
            "source_length": index.column("length"),
            "caption": index.column("caption"),
            "posterior": probabilities,
        }
    )
