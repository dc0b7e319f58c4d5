"""The documents of training: built corpora, model cards, evaluations, and summaries of learners' runs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from curation.ledger.documents.base import Count, Document, Number, Sha256, Text

# --- built corpora ------------------------------------------------------------------------------------------------


class BuildArguments(Document):
    """The arguments of a corpus build: arguments.json, created first."""

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
    """The numbers of samples that a model was trained and evaluated on."""

    train: Count
    held_out: Count


class Seconds(Document):
    """Wall time in seconds: of the training alone (`training`), and of the whole run (`all`)."""

    training: Number
    all: Number


class Card(Document):
    """The card of a trained model: card.json beside its weights."""

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


class FoldRecord(Document):
    """The record of one classifier of a fold: `folds/<identity>/<run>-<fold>.json` beside its weights.

    hits: samples of the fold, of `judged`, whose most likely class is their label. loss: of the last batch.
    """

    key: Text
    sha256: Sha256
    bytes: Count
    hits: Count
    judged: Count
    loss: Number


class Figures(Document):
    """The figures of one model; further fields are the metrics that the held-out samples allow."""

    run: Text
    seed: int
    seconds: Number
    samples_seen: Count
    flops: Number


class PartSizes(Document):
    """The numbers of samples of a snapshot and of its pool that are not held out."""

    kept: Count
    pool: Count


class PartDraw(Document):
    """The bound of a random part; None means the whole pool."""

    bound: Sha256 | None


# --- evaluations of a snapshot ------------------------------------------------------------------------------------


class Interval(Document):
    """A mean with half the width of its interval; `half` is None for a single value."""

    mean: Number
    half: Number | None


class Gain(Interval):
    """The difference of two means; `paired` if it was computed from runs with equal seeds."""

    paired: bool


class Arm(Document):
    """One arm of an evaluation: its models and their mean figures."""

    samples: Count
    runs: Annotated[list[Figures], Field(min_length=1)]
    mean: dict[str, Interval]


class HeldOutSamples(Document):
    """The held-out samples on which models were evaluated."""

    url: Text
    share: Number
    samples: Count


class TrainingSettings(Document):
    """The training settings that reports show."""

    steps: Count
    batch: Count
    lr: Number


class EvaluationProtocol(Document):
    """The settings shared by all models of an evaluation."""

    model: Text
    training: TrainingSettings


class FamilywiseLevel(Document):
    """The correction of a report's intervals: all `comparisons` of them hold together at `level`."""

    correction: Text
    level: Number
    comparisons: Count


class Evaluation(Document):
    """An evaluation of a snapshot.

    Earlier versions did not count `overlap` and did not correct intervals: both fields are None there.
    """

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
    """The FLOPs of a run: by part, and totals."""

    parts: dict[str, Number]
    totals: dict[str, Number]


class LearningRecipe(Document):
    """The recipe of a run: the kind of its learner -> the learner's fields."""

    learner: dict[str, Any]


class LearningSummary(Document):
    """The result of a learner's run: summary.json. Earlier versions measured no `overhead`."""

    identity: Text
    recipe: LearningRecipe
    data: list[str]
    key: Text
    curve: Annotated[list[CurvePoint], Field(min_length=1)]
    flops: Flops
    seconds: Number
    device_seconds: dict[str, Number]
    overhead: dict[str, Any] | None = None
