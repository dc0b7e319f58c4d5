"""Scorers: each adds one or more columns of numbers or words, or one embedding, to every sample.

A scorer is a frozen dataclass whose fields are its configuration in the recipe. `load` loads it once inside an actor;
`identity` lists everything that determines its values, from which the fingerprint is computed. Thresholds belong to
filters, never to a scorer. To add a scorer, write a file in this folder and add its class to `SCORERS`; in a package of
your own, declare the class as an entry point of the group `tutelage.scorers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from curation.core.entry_points import with_installed
from curation.scorers.caption_stats import CaptionStats
from curation.scorers.clip_score import ClipScore
from curation.scorers.cluster import Cluster
from curation.scorers.dfn import Dfn
from curation.scorers.embedding import Embedding
from curation.scorers.features import Features
from curation.scorers.gradient import Gradient
from curation.scorers.head import Aesthetic, Head
from curation.scorers.image_stats import ImageStats
from curation.scorers.label import Label
from curation.scorers.label_error import LabelError, LabelMargin
from curation.scorers.label_posterior import LabelAmbiguity, LabelDisagreement, LabelPosterior
from curation.scorers.language import Language
from curation.scorers.learnability import Learnability
from curation.scorers.negclip_loss import NegClipLoss
from curation.scorers.norm_sim import NormSim
from curation.scorers.nsfw import Nsfw
from curation.scorers.phash import PHash
from curation.scorers.posterior import Posterior
from curation.scorers.prediction import Prediction
from curation.scorers.scorer import (
    INDEX_COLUMNS,
    TORCH,
    Batch,
    CaptionNumberScorer,
    ClassNamingScorer,
    ColumnReadingScorer,
    HeaderCheckingScorer,
    PartlyScored,
    Score,
    Scorer,
    reads_of,
)
from curation.scorers.text_masked_clip_score import TextMaskedClipScore

__all__ = [
    "INDEX_COLUMNS",
    "SCORERS",
    "Batch",
    "CaptionNumberScorer",
    "ClassNamingScorer",
    "ColumnReadingScorer",
    "HeaderCheckingScorer",
    "PartlyScored",
    "Posterior",
    "Score",
    "Scorer",
    "fingerprint",
    "imports_of",
    "label_values",
    "phash",
    "reads_of",
    "scorer",
]

#: name in the recipe -> dataclass. The recipe's schema, the help and the contract test come from this table.
SCORERS: dict[str, type[Scorer]] = with_installed(
    "tutelage.scorers",
    {
        "aesthetic": Aesthetic,
        "caption_stats": CaptionStats,
        "clip_score": ClipScore,
        "cluster": Cluster,
        "dfn": Dfn,
        "embedding": Embedding,
        "features": Features,
        "gradient": Gradient,
        "head": Head,
        "image_stats": ImageStats,
        "label": Label,
        "label_ambiguity": LabelAmbiguity,
        "label_disagreement": LabelDisagreement,
        "label_error": LabelError,
        "label_margin": LabelMargin,
        "label_posterior": LabelPosterior,
        "language": Language,
        "learnability": Learnability,
        "negclip_loss": NegClipLoss,
        "norm_sim": NormSim,
        "nsfw": Nsfw,
        "phash": PHash,
        "prediction": Prediction,
        "text_masked_clip_score": TextMaskedClipScore,
    },
    Scorer,
)


def imports_of(scorer: Scorer) -> Sequence[str]:
    """Modules that a scorer declares as slow to import; torch for a scorer without `imports`."""
    declared: Callable[[], Sequence[str]] | None = getattr(scorer, "imports", None)
    return declared() if declared else TORCH


def fingerprint(scorer: Scorer, index_fingerprint: str) -> str:
    """Compute a scorer's fingerprint: sha256 of its identity and of `index_fingerprint`, the one of the unit reader.

    For a class of another package the fingerprint includes the class's name, because a subclass of one of our scorers
    that inherits its identity has other values. Raises `UserError` for an identity that is not JSON.
    """
    from curation.core.digest import digest
    from curation.core.errors import UserError

    cls = type(scorer)
    foreign = {} if cls.__module__.startswith("curation.") else {"class": f"{cls.__module__}.{cls.__qualname__}"}
    identity = dict(scorer.identity())
    try:
        return digest({"scorer": identity, "index": index_fingerprint, **foreign})
    except (TypeError, ValueError) as error:
        text = f"the identity() of {cls.__module__}.{cls.__qualname__} can't be written as JSON: {error}"
        raise UserError(text, fix="return numbers, strings, lists and mappings only") from None
