"""The documents of training: built corpora, cards of models, figures of an evaluation, summaries of runs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from curation.ledger.documents.base import Count, Document, Number, Sha256, Text

# --- built corpora ------------------------------------------------------------------------------------------------


class BuildArguments(Document):
    """What a corpus is built from: arguments.json, created first."""

    corpus: Text


class BuiltShard(Document):
    """One shard of a built corpus."""

    key: Text
    sha256: Sha256
    size: Count
    samples: Count


class BuiltCorpus(BuildArguments):
    """A built corpus: corpus.json, created last."""

    samples: Count
    bytes: Count
    shards: list[BuiltShard]
    counts: dict[str, Any]


# --- models and their figures -------------------------------------------------------------------------------------


class SampleCounts(Document):
    """Samples that a model was trained on, and judged on."""

    train: Count
    held_out: Count


class Seconds(Document):
    """Wall time of a run in seconds: of the training alone, and of the whole run."""

    training: Number
    all: Number


class Card(Document):
    """What a trained model is: card.json beside its weights."""

    identity: Text
    model: Text
    weights: Text
    key: Text
    sha256: Sha256
    bytes: Count
    samples: SampleCounts
    skipped: dict[str, Count]
    recipe: dict[str, Any]
    steps: Count
    samples_per_second: Number
    seconds: Seconds
    evaluation: dict[str, Any]


class Figures(Document):
    """How good one model is; the metrics that the held-out samples allow are further fields."""

    run: Text
    seed: int
    seconds: Number
    samples_seen: Count
    flops: Number


class PartSizes(Document):
    """Samples of a snapshot and of its pool whose names are not held out."""

    kept: Count
    pool: Count


class PartDraw(Document):
    """The bound of a random part; None: all of the pool."""

    bound: Sha256 | None


# --- evaluations of a snapshot ------------------------------------------------------------------------------------


class Interval(Document):
    """A mean with half the width of its interval; None from a single value."""

    mean: Number
    half: Number | None


class Gain(Interval):
    """A difference of two means."""

    paired: bool


class Arm(Document):
    """The models of one arm."""

    samples: Count
    runs: Annotated[list[Figures], Field(min_length=1)]
    mean: dict[str, Interval]


class HeldOutSamples(Document):
    """What models were judged on."""

    url: Text
    share: Number
    samples: Count


class TrainingSettings(Document):
    """The settings of a training that reports show."""

    steps: Count
    batch: Count
    lr: Number


class EvaluationProtocol(Document):
    """What is the same for all models of an evaluation."""

    model: Text
    training: TrainingSettings


class FamilywiseLevel(Document):
    """How the differences of a report are judged: all `comparisons` of them hold together at a `level`."""

    correction: Text
    level: Number
    comparisons: Count


class Evaluation(Document):
    """An evaluation of a snapshot. `overlap`: None where an earlier version didn't count it. `intervals`: None where it
    judged each difference by itself."""

    snapshot: Count
    protocol: EvaluationProtocol
    held_out: HeldOutSamples
    arms: dict[str, Arm]
    minus: dict[str, dict[str, Gain]]
    overlap: dict[str, Count] | None
    intervals: FamilywiseLevel | None = None


# --- runs of learners ---------------------------------------------------------------------------------------------


class MetricsRow(Document):
    """A line of metrics.jsonl."""

    step: Count


class CurvePoint(Document):
    """One evaluation of a run."""

    updates: Count
    quality: Number
    totals: dict[str, Number]


class Flops(Document):
    """The ledger of compute."""

    parts: dict[str, Number]
    totals: dict[str, Number]


class LearningRecipe(Document):
    """The recipe of a run: the kind of its learner -> that learner's fields."""

    learner: dict[str, Any]


class LearningSummary(Document):
    """What came of a run of a learner: summary.json."""

    identity: Text
    recipe: LearningRecipe
    data: list[str]
    key: Text
    curve: Annotated[list[CurvePoint], Field(min_length=1)]
    flops: Flops
    seconds: Number
    device_seconds: dict[str, Number]
