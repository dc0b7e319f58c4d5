"""Columns as references: only losses in one unit are subtracted from each other."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pytest

from curation.core.errors import UserError
from curation.learning.score_column import resolve_column
from curation.learning.sources import RunData
from curation.recipes.learning_recipe import LearnRecipe, parse_learn_recipe
from curation.scorers import SCORERS, CaptionNumberScorer
from curation.scorers.scorer import unit_of

CONTRASTIVE = "contrastive: {model: proxy-mu, steps: 2, batch: 8}"
CLASSIFICATION = "classification: {model: proxy-mu, steps: 2, batch: 8}"


class CrossEntropy(CaptionNumberScorer):
    unit = "nats"


@pytest.fixture
def snapshot(monkeypatch: pytest.MonkeyPatch) -> RunData:
    """All that is asked of a snapshot: the scorers of its recipe, and the columns that they made."""
    monkeypatch.setitem(SCORERS, "cross_entropy", CrossEntropy)  # type: ignore[arg-type]
    made = [{"clip_score": {}}, {"dfn": {"name": "other"}}, {"image_stats": {}}, {"negclip_loss": {}},
            {"cross_entropy": {"name": "loss"}}, {"gone": {}}, {"learnability": {}}]  # fmt: skip
    names = ["clip_score", "other", "image_stats.blank", "negclip_loss", "loss", "gone", "learnability"]
    schema = pa.schema([(name, pa.float32()) for name in names])
    found = SimpleNamespace(
        document={"recipe": {"scorers": made}, "fingerprints": {}, "score_types": {}, "samples": {"seen": 9}},
        reader=lambda: SimpleNamespace(schema=schema),
    )
    return RunData("pool@1", [], found)  # type: ignore[arg-type]


def recipe(column: str, learner: str, selector: str) -> LearnRecipe:
    return parse_learn_recipe(f"""
data: pool
output: out
learner: {{{learner}}}
online: {{model: proxy-mu}}
reference: {{column: {column}}}
selection: {{selector: {selector}}}
""")


@pytest.mark.parametrize(
    "selector", ["learnability", "blend", "{shuffled: {of: {gain: 3}}}", "{blend: {online: {start: 0, end: 1}}}"]
)
@pytest.mark.parametrize(
    ("learner", "fits"), [(CONTRASTIVE, {"clip_score", "other"}), (CLASSIFICATION, {"loss"})], ids=["pairs", "classes"]
)  # fmt: skip
def test_what_is_subtracted_is_in_the_same_unit(snapshot: RunData, selector: str, learner: str, fits: set[str]) -> None:
    for column in ("clip_score", "other", "image_stats.blank", "negclip_loss", "loss", "gone", "learnability"):
        one = recipe(column, learner, selector)
        if column in fits:
            assert resolve_column(one, column, [snapshot]).fingerprint == column
            continue
        with pytest.raises(
            UserError, match=f"the column {column} of pool@1 is .*: their difference means nothing"
        ) as caught:
            resolve_column(one, column, [snapshot])
        assert "easy_reference" in (caught.value.fix or "") and "\n" not in str(caught.value)


@pytest.mark.parametrize("learner", [CONTRASTIVE, CLASSIFICATION])
def test_who_looks_at_the_reference_alone_takes_any_column(snapshot: RunData, learner: str) -> None:
    for column in ("clip_score", "image_stats.blank", "loss", "gone"):
        resolve_column(recipe(column, learner, "easy_reference"), column, [snapshot])


def test_a_column_of_losses_keeps_its_sign(snapshot: RunData) -> None:
    for column, sign in (("clip_score", -1), ("gone", -1), ("loss", 1)):
        assert resolve_column(recipe(column, CLASSIFICATION, "easy_reference"), column, [snapshot]).signs == (sign,)


def test_every_scorer_declares_a_unit_that_is_known() -> None:
    assert {unit_of(cls) for cls in SCORERS.values()} == {"cosine", "score"} and unit_of(object()) == "score"
    assert {name for name, cls in SCORERS.items() if unit_of(cls) == "cosine"} == {
        "clip_score", "dfn", "text_masked_clip_score"
    }  # fmt: skip
