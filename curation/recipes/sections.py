"""Sections of a recipe as pydantic models, and the base of both recipes.

A recipe is one model: its fields, their defaults, ranges and descriptions stand there and nowhere else. A field that
YAML writes in another form than the recipe holds (entries of a room, one URL or several) is marked with `Written`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PrivateAttr,
    ValidationInfo,
    field_validator,
)
from pydantic_core import CoreSchema, core_schema

from curation.core.digest import digest
from curation.core.errors import locating
from curation.recipes.findings import not_a_number
from curation.recipes.locations import Where
from curation.storage.urls import LONGEST, PATIENCE, StoreOptions


class Section(BaseModel):
    """A part of a recipe; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _check_number(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        written = next((mark.form for mark in field.metadata if isinstance(mark, Written)), field.annotation)
        if wrong := not_a_number(written, value):
            raise ValueError(wrong)
        return value


@dataclass(frozen=True)
class Reading:
    """What validators know about the document: its locations and its plain value.

    `of_snapshot`: an earlier version accepted this recipe and made a snapshot with it.
    """

    where: Where
    value: Mapping[str, Any]
    of_snapshot: bool = False


def reading(info: ValidationInfo) -> Reading:
    """Return the document that is being validated."""
    return _as_reading(info.context)


def _as_reading(context: Any) -> Reading:
    if not isinstance(context, Reading):
        raise TypeError("a recipe is validated by parse_recipe or parse_learn_recipe, not by model_validate alone")
    return context


class Document(Section):
    """A whole recipe, validated by `parse_document`."""

    _document: Mapping[str, Any] = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        self._document = _as_reading(context).value

    @property
    def document(self) -> Mapping[str, Any]:
        """The plain value as written, with overrides: what snapshots and runs record."""
        return self._document

    @property
    def sha256(self) -> str:
        """sha256 of the document's canonical JSON."""
        return digest(self.document)


@dataclass(frozen=True)
class Written:
    """Marks a field whose form in YAML has the type `form`; `build` makes the recipe's value of it.

    The JSON Schema of the field is that of `form`. `build` raises `ValueError`, or a `UserError` with its location.
    """

    form: Any
    build: Callable[[Any, Reading], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def build(value: Any, info: ValidationInfo) -> Any:
            return self.build(value, reading(info))

        return core_schema.with_info_after_validator_function(build, handler.generate_schema(self.form))


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


#: One URL, or a list of them.
Urls = Annotated[tuple[str, ...], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]


class StoreSection(Section):
    """The object store and how long its failures are retried. Credentials come from the environment, a profile or the
    machine, never from a recipe."""

    endpoint: str | None = Field(default=None, description="URL of an S3-compatible store; default: the cloud's own")
    region: str | None = Field(default=None, description="region of the bucket")
    profile: str | None = Field(default=None, description="profile of the AWS configuration files")
    patience: float = Field(
        default=PATIENCE,
        gt=0,
        le=LONGEST,
        description="seconds for which a request may fail without progress before the run stops",
    )


def _options(section: StoreSection, read: Reading) -> StoreOptions:
    with locating(f"{read.where(('store', 'endpoint'))}: store.endpoint"):
        return StoreOptions(**section.model_dump())


#: The section `store` as the storage layer takes it.
Store = Annotated[StoreOptions, Written(StoreSection, _options)]
