"""The documents of a review queue, and the columns of its items.

    <queue>/queue.json                                        create-only: what is asked, and the sha256 of the items
    <queue>/items-<sha256>.parquet                            the items in rank order; the number of an item is its row
    <queue>/answers/<page>/<item>/<reviewer>-<n>.json         create-only: the n-th answer of a reviewer to an item
    <queue>/orders/<number>.json, <sha256>.parquet            create-only: another order of the items (`orders`)

The sha256 of `queue.json` is the queue's identity: every answer and every export contains it. The items are named by
their hash, because a build that is killed or that lost the race must not replace the items of the queue that won.
A page is 1,000 items, so that a reader lists and holds one page of answers at a time.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

import pyarrow as pa
from pydantic import Field, model_validator

from curation.core.errors import LedgerError, UserError
from curation.ledger.documents import Document
from curation.ledger.documents.base import Count, Sha256, Text
from curation.shards.images import DecodeLimits

QUEUE_KEY, ANSWERS = "queue.json", "answers"
PAGE = 1000  # items whose answers lie in one folder
MOST_CAPTION = 4096  # characters of a caption that a queue holds
BEST = 3  # classes of the proxy that an item shows

ITEMS_SCHEMA = pa.schema(
    [
        ("item", pa.int32()),  # the rank, from 0
        ("uid", pa.string()),
        ("source_key", pa.string()),
        ("source_etag", pa.string()),
        ("source_offset", pa.int64()),
        ("source_length", pa.int64()),
        ("label", pa.string()),  # the current label; null if the sample has none
        ("label_json", pa.string()),  # the value of the label's field as JSON text: a number stays a number
        ("caption", pa.string()),  # at most `MOST_CAPTION` characters
        ("best", pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float32())]))),
        ("priority", pa.float32()),
        ("reason", pa.string()),  # why the item has no picture or no usable label: a key of `findings.REASONS`
        ("detail", pa.string()),
    ]
)

REVIEWER = r"[a-z0-9][a-z0-9._@+-]{0,63}"  # lower case: some file systems take `Ann` and `ann` for one name
_KEY = re.compile(rf"{ANSWERS}/(\d{{5,}})/(\d{{8,}})/({REVIEWER})-([1-9]\d{{0,8}})\.json")
Reviewer = Annotated[str, Field(pattern=rf"^{REVIEWER}$")]
AnswerKind = Literal["label", "cannot_tell", "undo"]
#: Priorities of `doubtful_labels` that follow from a classifier's distributions, so that they change with it.
PosteriorPriority = Literal["active", "error", "margin", "disagreement"]


class RankingPin(Document):
    """How the items were ranked: the score column, highest first, and the recipe that computed it."""

    by: Text
    recipe_sha256: Sha256


class RerankingPin(Document):
    """How the items left are ranked again after every `every` answers: by which priority of which classifiers."""

    every: Annotated[int, Field(ge=1, lt=1 << 53)]
    priority: PosteriorPriority
    model: Text
    weights: Text
    sha256: Sha256


class ItemsPin(Document):
    """The table of the items."""

    key: Annotated[str, Field(pattern=r"^items-[0-9a-f]{64}\.parquet$")]
    sha256: Sha256
    bytes: Count
    rows: Count


class QueueDocument(Document):
    """What a queue asks, of which samples, at which cost. `corpus` is the root of the shards that hold the pictures.

    `label`: the field of a sample's json that holds its label. `current_votes`: votes that the current label counts
    for, 0 or 1. `limits`: those of decoding, by which pictures are shown. `reranking`: None for a queue in one order.
    """

    kind: Literal["review_queue"]
    version: Literal[1]
    budget: Annotated[int, Field(ge=1, lt=1 << 53)]
    classes: Annotated[list[Text], Field(min_length=2)]
    label: Text
    current_votes: Annotated[int, Field(ge=0, le=1)]
    ranking: RankingPin
    corpus: Text
    limits: dict[str, Any]
    items: ItemsPin
    reranking: RerankingPin | None = None

    @model_validator(mode="after")
    def _single_classes(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("`classes` names a class twice")
        return self

    @property
    def decoding(self) -> DecodeLimits:
        """The limits within which pictures are decoded. Raises `LedgerError` for limits that this version lacks."""
        try:
            return DecodeLimits(**{**self.limits, "formats": tuple(self.limits["formats"])})
        except (TypeError, KeyError) as error:
            fix = "read the queue with the version of Tutelage that built it, or restore it from a backup"
            raise LedgerError(f"the queue's field `limits` is not valid: {error}", fix=fix) from None


class AnswerRecord(Document):
    """One answer: a label, that the reviewer cannot tell, or that the reviewer takes back the answer before.

    `n` counts the reviewer's answers to the item from 1. `at`: when it was given, as information only.
    """

    kind: AnswerKind
    item: Count
    reviewer: Reviewer
    n: Annotated[int, Field(ge=1, lt=10**9)]
    queue: Sha256
    label: Text | None = None
    at: str = ""
    nonce: str = ""  # tells a new answer from a repeated one: a create of equal bytes counts as done

    @model_validator(mode="after")
    def _label_where_it_belongs(self) -> Self:
        if (self.kind == "label") != (self.label is not None):
            raise ValueError("`label` belongs to an answer of the kind `label`, and to no other")
        return self

    @property
    def meaning(self) -> tuple[str, str | None]:
        """Kind and label: equal for a repeated answer, whenever it was given."""
        return self.kind, self.label


def page_folder(item: int) -> str:
    """Return the folder of the answers to the 1,000 items around this one."""
    return f"{ANSWERS}/{item // PAGE:05d}"


def item_folder(item: int) -> str:
    """Return the folder of the answers to an item."""
    return f"{page_folder(item)}/{item:08d}"


def answer_key(item: int, reviewer: str, n: int) -> str:
    """Return the key of a reviewer's n-th answer to an item."""
    return f"{item_folder(item)}/{reviewer}-{n}.json"


def parse_answer_key(key: str) -> tuple[int, str, int] | None:
    """Return item, reviewer and n of an answer's key; None for any other key."""
    if (found := _KEY.fullmatch(key)) is None:
        return None
    item, reviewer, n = int(found[2]), found[3], int(found[4])
    return (item, reviewer, n) if answer_key(item, reviewer, n) == key else None


def reviewer_name(text: str) -> str:
    """Return a reviewer's name in lower case. Raises `UserError` for a name that can't be part of a key."""
    name = text.strip().lower()
    if not re.fullmatch(REVIEWER, name):
        fix = "use at most 64 letters, digits and . _ @ + -, beginning with a letter or a digit"
        raise UserError(f"{text[:80]!r} is not a reviewer's name", fix=fix)
    return name
