"""The room of scorers: each adds one column of numbers (or several, or words), or one embedding, to every sample.

A scorer is a frozen dataclass whose fields are its configuration in the recipe. It knows how to `load` itself once
inside an actor and what decides its values (`identity`, from which the fingerprint is made). Thresholds never live
here: they are filters. To add one: write a file beside these and name it in `SCORERS`; or, in a package of your own,
name its class as an entry point of the group `tutelage.scorers`.
"""

from __future__ import annotations

from curation.core.entry_points import with_installed
from curation.scorers.caption_stats import CaptionStats
from curation.scorers.clip_score import ClipScore
from curation.scorers.cluster import Cluster
from curation.scorers.dfn import Dfn
from curation.scorers.embedding import Embedding
from curation.scorers.head import Aesthetic, Head
from curation.scorers.image_stats import ImageStats
from curation.scorers.language import Language
from curation.scorers.learnability import Learnability
from curation.scorers.negclip_loss import NegClipLoss
from curation.scorers.norm_sim import NormSim
from curation.scorers.nsfw import Nsfw
from curation.scorers.phash import PHash
from curation.scorers.scorer import Batch, CaptionNumberScorer, HeaderCheckingScorer, Score, Scorer
from curation.scorers.text_masked_clip_score import TextMaskedClipScore

__all__ = [
    "SCORERS",
    "Batch",
    "CaptionNumberScorer",
    "HeaderCheckingScorer",
    "Score",
    "Scorer",
    "fingerprint",
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
        "head": Head,
        "image_stats": ImageStats,
        "language": Language,
        "learnability": Learnability,
        "negclip_loss": NegClipLoss,
        "norm_sim": NormSim,
        "nsfw": Nsfw,
        "phash": PHash,
        "text_masked_clip_score": TextMaskedClipScore,
    },
    Scorer,
)


def fingerprint(scorer: Scorer, index_fingerprint: str) -> str:
    """The name of a scorer's values: sha256 of its identity and of how units are read (see `units`).

    Of another package's class, also of what it is called: one that is derived from ours, and leaves the identity as it
    is, has not its values. Raises `UserError` for an identity that is no JSON.
    """
    from curation.core.digest import digest
    from curation.core.errors import UserError

    cls = type(scorer)
    called = {} if cls.__module__.startswith("curation.") else {"class": f"{cls.__module__}.{cls.__qualname__}"}
    identity = dict(scorer.identity())
    try:
        return digest({"scorer": identity, "index": index_fingerprint, **called})
    except (TypeError, ValueError) as error:
        text = f"what identity() of {cls.__module__}.{cls.__qualname__} says can't be written as JSON: {error}"
        raise UserError(text, fix="numbers, words, lists and mappings of such") from None
