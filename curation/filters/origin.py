"""Samples by their origin: as found, with a replaced label or caption, restored, or made by a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curation.core.origins import TRUSTED, expect_origins


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Keep the samples whose origin is one of `keep`: real, relabelled, captioned, restored or synthetic.

    The origin is what the sample's json says under `tutelage.origin`, together with what this recipe's `edits` replace:
    a sample whose label they replace is relabelled here, although filters see its label as it was before.
    Cost: one pass over the column.
    Example: origin: {keep: [real, relabelled, captioned]}
    """

    keep: tuple[str, ...] = TRUSTED

    def __post_init__(self) -> None:
        expect_origins(self.keep, "keep")

    def columns(self) -> Sequence[str]:
        return ("origin",)

    def drops(self) -> str:
        kept = ", ".join(f"'{name}'" for name in self.keep)
        return f"""SELECT id, found AS detail FROM (SELECT id, coalesce("origin", 'real') AS found FROM alive)
            WHERE found NOT IN ({kept})"""
