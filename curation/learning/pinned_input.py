"""The input of a run, pinned: every URL of its recipe is resolved once, before anything is read or trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from curation.core.digest import digest
from curation.core.errors import LedgerError, NotFoundError, UserError
from curation.core.holdout import HOLDOUT_RULE
from curation.dataset.loader import ListedShard
from curation.dataset.sample_weights import ALIKE, SampleWeights
from curation.learning.sources import RunData, resolve
from curation.learning.summaries import summary_of, summary_sha256
from curation.ledger.documents import read_json
from curation.ledger.documents.learning import LearningSummary
from curation.ledger.ledger import Ledger
from curation.models.retrieval import EVALUATION_VERSION, MAX_EVALUATED
from curation.recipes.learning_recipe import LearnRecipe
from curation.selection.policy import Policy
from curation.storage.store import Store, open_store

_OWN = "output: a folder of its own"


@dataclass(frozen=True)
class PinnedInput:
    """Everything that a run reads, as it was when the run was started.

    data: the sources of candidates. weights: of each, all alike where the recipe ignores sample weights.
    output: the store of the run. trusted: data of a reference that learns beside the learner.
    evaluation: other data to judge on; None where a part of the candidates' shards is held out.
    policy: of a replay, the sha256 of the replayed choices. compared: the summary of the run to compare with; None
    where the recipe names none, or it has gone.
    """

    data: tuple[RunData, ...]
    weights: tuple[SampleWeights, ...]
    output: Store
    trusted: RunData | None = None
    evaluation: RunData | None = None
    policy: str | None = None
    holdout: bool = False
    compared: Mapping[str, Any] | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """The pinned URLs of the data."""
        return tuple(source.url for source in self.data)

    @cached_property
    def sha256(self) -> str:
        """The hash of the data that determine the weights, by content, so that a copied corpus has the same."""
        parts = _contents([source.shards for source in (*self.data, *([self.trusted] if self.trusted else []))])
        parts += [[some.sha256 for some in self.weights]] if any(self.weights) else []
        parts += [{"holdout_rule": HOLDOUT_RULE}] if self.holdout else []
        return digest([*parts, self.policy] if self.policy is not None else parts)

    @cached_property
    def candidates_sha256(self) -> str:
        """The hash of the candidates' shards, by content."""
        return digest(_contents([source.shards for source in self.data]))

    @cached_property
    def held_out_sha256(self) -> str:
        """The hash of the held-out samples' shards, by content, and of the rules by which samples are judged."""
        sources = self.data if self.evaluation is None else (self.evaluation,)
        return digest([*_contents([source.shards for source in sources]), MAX_EVALUATED, EVALUATION_VERSION])


def pin_input(recipe: LearnRecipe) -> PinnedInput:
    """Resolve every URL of a recipe, once.

    Raises `UserError` for an output that holds a dataset or the run's own data, `EmptyCorpusError` for data without
    shards. Cost: a listing of each source.
    """
    options = recipe.options
    data = tuple(resolve(url, options) for url in recipe.data)
    train = recipe.reference.train if recipe.reference is not None else None
    output = open_store(recipe.output, options)
    _check_output(recipe.output, output, data)
    return PinnedInput(
        data=data,
        weights=tuple(source.weights if recipe.weighted else ALIKE for source in data),
        output=output,
        trusted=None if train is None else resolve(train, options),
        evaluation=None if recipe.evaluation is None else resolve(recipe.evaluation, options),
        policy=None if recipe.replay is None else policy_of(recipe).sha256(recipe.learner.steps),
        holdout=bool(recipe.holdout),
        compared=_compared(recipe),
    )


def finished(recipe: LearnRecipe, pinned: PinnedInput) -> dict[str, Any] | None:
    """Return the summary of this run if it has finished with this input, else None."""
    try:
        found = read_json(pinned.output, "summary.json", LearningSummary, "")
    except (NotFoundError, LedgerError):
        return None
    expected = {
        "identity": recipe.identity, "data_sha256": pinned.sha256, "held_out_sha256": pinned.held_out_sha256,
    }  # fmt: skip
    same = all(found.get(name) == value for name, value in expected.items())
    return found if same and pinned.output.exists(found["key"]) and _compares(found, recipe, pinned) else None


def _compares(summary: Mapping[str, Any], recipe: LearnRecipe, pinned: PinnedInput) -> bool:
    """Return whether a summary compares with the run that the recipe names, as that run is now, unless it has gone."""
    against = summary.get("against") or {}
    if recipe.compare is None or against.get("run") != recipe.compare or pinned.compared is None:
        return bool(against.get("run") == recipe.compare)
    return bool(against.get("sha256") == summary_sha256(pinned.compared))


def policy_of(recipe: LearnRecipe) -> Policy:
    """Return the data policy that a replay repeats. Raises `UserError` where there is none."""
    assert recipe.replay is not None
    return Policy(open_store(f"{recipe.replay.rstrip('/')}/policy", recipe.options))


def _compared(recipe: LearnRecipe) -> dict[str, Any] | None:
    """Return the summary of the run to compare with. A finished run is reused even if that one has gone."""
    try:
        return summary_of(recipe.compare, recipe) if recipe.compare else None
    except UserError:
        return None


def _check_output(url: str, output: Store, data: Sequence[RunData]) -> None:
    """Raise `UserError` for an output that is a dataset, lies within one, or holds shards of the run's data."""
    if Ledger(output).latest():
        raise UserError(f"{url} holds snapshots", fix=_OWN)
    root = output.location("")
    for source in data:
        if source.snapshot is not None and root.startswith(source.snapshot.store.location("")):
            raise UserError(f"{url} lies within the dataset {source.url}", fix=_OWN)
        if any(shard.store.location(shard.ref.key).startswith(root) for shard in source.shards):
            raise UserError(f"{url} holds shards of {source.url}", fix=_OWN)


def _contents(sources: Sequence[Sequence[ListedShard]]) -> list[Any]:
    """Return the shards of each source, by content."""
    return [[list(shard.ref.content) for shard in shards] for shards in sources]
