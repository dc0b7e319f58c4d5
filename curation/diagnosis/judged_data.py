"""What a model was judged on: the data, labels and held-out part of an evaluation, or of the model's own training.

An evaluation is the JSON of `curate evaluate MODEL... --against URL --labels ... --json`. The folder of `curate learn`
names the data that its run held out. Both say which samples a failure may be among: `curate diagnose failures` then
needs no `--data`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from curation.core.errors import LedgerError, NotFoundError, UserError
from curation.core.holdout import group_of_name, is_held_out
from curation.diagnosis.subject import CONTENT
from curation.evaluation.labellings import Labelling
from curation.ledger.documents import read_json
from curation.ledger.documents.learning import LearningSummary
from curation.models.weights import Weights
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

    def expect(self, weights: Weights) -> None:
        """Raise `UserError` if the recorded weights are others."""
        if self.sha256 and self.sha256 != weights.sha256:
            text = f"{weights.url} has the sha256 {weights.sha256[:16]}, and {self.sha256[:16]} was judged"
            raise UserError(text, fix="evaluate the weights as they are now, or restore those that were judged")

    def labelling(self) -> Labelling:
        """Return the labels that count."""
        return Labelling("judged", tuple(self.edits))


def judged_data(
    source: str, data: str | None, label: str | None, *, model: str | None = None, options: StoreOptions | None = None
) -> JudgedData:
    """Return what failures of a source are looked for in.

    source: URL of an evaluation (`.json`), of a run's folder or of weights. data, label: named by the user; other data
    than those of the source count whole, with their stored labels. Raises `UserError` where no data is known.
    """
    is_evaluation = source.endswith(".json")
    if model is not None and not is_evaluation:
        text = f"--model names a model of an evaluation, and {source} is none"
        raise UserError(text, fix="leave --model out, or name the evaluation's JSON file")
    own = of_evaluation(source, model=model, options=options) if is_evaluation else of_run(source, options)
    if data is None and own is not None:
        return replace(own, label=label or own.label)
    if data is None:
        text = f"{source} does not name the data that it was judged on"
        raise UserError(text, fix="name the data: --data URL")
    if own is None:
        return JudgedData(source, data, label or "name")
    return JudgedData(own.model, data, label or own.label, sha256=own.sha256)


def of_evaluation(url: str, *, model: str | None = None, options: StoreOptions | None = None) -> JudgedData:
    """Return what a model of an evaluation was judged on, with the labels of its last labelling.

    model: its name in the evaluation; needed if that has several. Raises `UserError` for another document.
    """
    store, key = open_object(url, options)
    try:
        document = json.loads(store.get(key))
        models: Mapping[str, Mapping[str, str]] = {name: one for name, one in document["models"].items() if one["url"]}
        held_out, label = document["held_out"], str(document["label"])
        data, part = str(held_out["url"]), JudgedPart(float(held_out["share"]))
        edits = tuple(map(str, list(document["labellings"].values())[-1]["edits"]))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"{url} is no evaluation of models under labellings", fix=EVALUATE) from error
    chosen = models[_one(url, list(models), model)]
    return JudgedData(chosen["url"], data, label, part, edits, chosen["sha256"])


def _one(url: str, names: Sequence[str], wanted: str | None) -> str:
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted is None or wanted not in names:
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
