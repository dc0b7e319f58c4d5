"""What a model was judged on: the data, labels and held-out part of an evaluation, or of the model's own training.

An evaluation is the JSON of `curate evaluate MODEL... --against URL --labels ... --json`. The folder of `curate learn`
names the data that its run held out. Both say which samples a failure may be among: `curate diagnose failures` then
needs no `--data`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curation.core.errors import LedgerError, NotFoundError, UserError
from curation.core.holdout import group_of_name, is_held_out
from curation.diagnosis.subject import CONTENT
from curation.evaluation.labellings import Labelling
from curation.ledger.documents import read_json
from curation.ledger.documents.learning import LearningSummary
from curation.storage.store import StoreOptions, open_object, open_store

EVALUATE = "write one: curate evaluate MODEL --against URL --labels before,after --edits LIST --json > evaluation.json"
BY_NAME, BY_PICTURE = "name", "picture"
GROUP = "group"  # column of the names by which samples are held out


@dataclass(frozen=True)
class JudgedPart:
    """The samples that a model was judged on: a held-out share of the groups, or all (0). unit: of groups."""

    share: float = 0.0
    unit: str = BY_NAME

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that `has` reads beside the content hash."""
        return (GROUP,) if self.share and self.unit == BY_NAME else ()

    def scorers(self) -> list[dict[str, Any]]:
        """Return the scorers of these columns, as a recipe lists them."""
        return [{"label": {"field": "name", "name": column}} for column in self.columns]

    def has(self, row: Mapping[str, Any]) -> bool:
        """Whether the model was judged on the sample of a row."""
        name = group_of_name(row[GROUP] or "") if self.columns else ""
        return not self.share or is_held_out(name or row[CONTENT], self.share)


@dataclass(frozen=True)
class JudgedData:
    """The samples that a model was judged on.

    model: URL of its weights. data: URL of shards or of a snapshot. label: field of the label. edits: URLs of edit
    lists that correct the labels. sha256: of the weights, "" if it is not recorded.
    """

    model: str
    data: str
    label: str
    part: JudgedPart = field(default=JudgedPart())
    edits: Sequence[str] = field(default=())
    sha256: str = ""

    def labelling(self) -> Labelling:
        """Return the labels that count."""
        return Labelling("judged", tuple(self.edits))


def of_evaluation(url: str, *, model: str | None = None, options: StoreOptions | None = None) -> JudgedData:
    """Return what a model of an evaluation was judged on, with the labels of its last labelling.

    model: its name in the evaluation; needed if that has several. Raises `UserError` for another document.
    """
    try:
        store, key = open_object(url, options)
        document = json.loads(store.get(key))
        models: Mapping[str, Any] = document["models"]
        held_out, labellings = document["held_out"], document["labellings"]
        name = _one(url, list(models), model)
        last = labellings[list(labellings)[-1]]
        edits, part = tuple(map(str, last["edits"])), JudgedPart(float(held_out["share"]))
        url_of_model, sha = str(models[name]["url"]), str(models[name]["sha256"])
        return JudgedData(url_of_model, str(held_out["url"]), str(document["label"]), part, edits, sha)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"{url} is no evaluation of models under labellings", fix=EVALUATE) from error


def _one(url: str, names: Sequence[str], wanted: str | None) -> str:
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted not in names:
        listed = ", ".join(names[:10])
        text = f"{url} judges {len(names)} models" if wanted is None else f"{url} judges no model {wanted}"
        raise UserError(text, fix=f"name one with --model: {listed}")
    return wanted


def of_run(url: str, options: StoreOptions | None = None) -> JudgedData | None:
    """Return what the learner of a finished run was judged on; None where the URL is no such run."""
    try:
        found = read_json(open_store(url, options), "summary.json", LearningSummary, "run it again")
    except (NotFoundError, LedgerError, UserError):
        return None
    learner: Mapping[str, Any] = found["recipe"]["learner"]
    if "classification" not in learner:
        return None
    label = str(learner["classification"].get("label", "name"))
    evaluation, holdout = found["recipe"].get("evaluation"), float(found["recipe"].get("holdout", 0.0))
    if evaluation is not None:
        return JudgedData(url, str(evaluation), label, sha256=str(found.get("sha256", "")))
    if not holdout or len(found["data"]) != 1:
        return None
    return JudgedData(
        url, str(found["data"][0]), label, JudgedPart(holdout, BY_PICTURE), sha256=str(found.get("sha256", ""))
    )
