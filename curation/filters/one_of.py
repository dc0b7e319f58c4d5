"""Samples whose word in a column is, or is not, on a list: languages, formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curation.core.types import FORMATS


@dataclass(frozen=True, kw_only=True)
class OneOf:
    """Keep the samples whose `column` is one of `values`; with `keep: false`, drop them.

    `column` is a score that is a word, such as `language.code`, or the index's `format`.
    Cost: one pass over the column.
    Example: one_of: {column: language.code, values: [en, de]}
    """

    column: str
    values: tuple[str, ...]
    keep: bool = True

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("values is empty; name at least one value")
        if self.column == "format" and self.keep and not set(self.values) & set(FORMATS):
            raise ValueError(f"unknown image format {self.values[0]!r}; the formats are {', '.join(FORMATS)}")

    def columns(self) -> Sequence[str]:
        return (self.column,)

    def drops(self) -> str:
        listed = ", ".join("'" + value.replace("'", "''") + "'" for value in self.values)
        no = "NOT" if self.keep else ""
        return f"""SELECT id, '{self.column}' AS detail FROM alive WHERE "{self.column}"::VARCHAR {no} IN ({listed})"""
