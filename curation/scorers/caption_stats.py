"""Statistics of a caption: its length and its repetition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.core.words import fold, words
from curation.scorers.scorer import CaptionNumberScorer

if TYPE_CHECKING:
    import torch

    from curation.scorers.scorer import Batch, Score
    from curation.storage.store import StoreOptions

_TYPE = pa.struct([("characters", pa.int32()), ("words", pa.int32()), ("repetition", pa.float32())])


@dataclass(frozen=True, kw_only=True)
class CaptionStats(CaptionNumberScorer):
    """Length and repetition of the caption.

    Columns: `characters` (int32); `words` (int32), which are runs of visible characters between white space, and single
    characters of Han and kana; `repetition` (float32), 1 - different words / words: 0 for "a red apple", 0.67 for
    "sale sale sale". The filter `boilerplate` counts how often a caption occurs in the corpus.
    Cost: 2 us a caption of ten words. Source: Gopher (2112.11446), appendix A.1, for repetition.
    Example: caption_stats: {}
    """

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "caption_stats", "code": 3}

    def imports(self) -> Sequence[str]:
        return ()

    def values(self) -> pa.DataType:
        return _TYPE

    def load(self, device: torch.device | None, options: StoreOptions | None = None) -> Score:
        return score


def score(batch: Batch) -> pa.StructArray:
    """Compute the statistics of the N captions of a batch: a struct array of N rows."""
    found = [words(fold(caption)) for caption in batch.captions]
    columns = (
        [len(caption) for caption in batch.captions],
        [len(row) for row in found],
        [1 - len(set(row)) / len(row) if row else 0.0 for row in found],
    )
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _TYPE, strict=True)]
    return pa.StructArray.from_arrays(arrays, fields=list(_TYPE))
