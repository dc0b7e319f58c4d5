"""All checks of one snapshot in the order of what they need: the pass that `curate verify` and `curate repair` share.

    chain -> plan -> lists -> score tables -> (models) -> decisions -> write units -> document -> evaluations

Each step uses what the steps before found sound or rebuilt. Where something that a step needs is damaged and not
rebuilt, its objects are compared with the hashes that documents have for them instead.

Cost: every input shard is read and decoded once, kept samples and output shards once more. The driver holds the
decision engine's bounded memory and about 300 bytes a write unit.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from curation.core.errors import RecipeError, TutelageError, UserError
from curation.core.progress import Tick
from curation.core.types import ShardRef
from curation.curating.pipeline import pipeline_of
from curation.curating.verification import chain, evaluations, plans, snapshot_document, unreferenced_documents
from curation.curating.verification.differences import read_object
from curation.curating.verification.findings import Finding
from curation.curating.verification.repairs import RepairWriter
from curation.curating.verification.score_checks import ScoreChecks
from curation.curating.verification.subject import CheckRunner, Subject
from curation.curating.verification.unreadable_shards import check_unreadable
from curation.curating.verification.versions import known_versions
from curation.curating.verification.write_checks import WriteChecks, check_stored, read_index
from curation.dataset import snapshot as snapshots
from curation.dataset.corpus import open_corpus
from curation.ledger.ledger import unit_id
from curation.ledger.plans import Plan
from curation.ledger.score_tables import INDEX
from curation.ledger.snapshot_keys import LAST, read_raw, snapshot_key
from curation.recipes.curation_recipe import Recipe, parse_recipe
from curation.storage.store import Store, open_store


@contextmanager
def quiet(label: str, total: int | None) -> Iterator[Tick]:
    """No progress."""
    yield lambda n: None


@dataclass
class Checks:
    """One pass over one snapshot. `rescore`: the share of units whose scores are compared with the models."""

    out: Store
    number: int
    repairs: RepairWriter
    engine: CheckRunner
    accept_loss: bool = False
    rescore: float = 0.0
    seed: int = 0
    shown: Callable[[str, int | None], AbstractContextManager[Tick]] = quiet  # what shows progress: a label, a total
    notes: list[str] = field(default_factory=list)  # what could not be compared, and why
    lost: list[range] = field(default_factory=list)  # numbers of snapshots that were given up
    found: set[str] = field(default_factory=set)  # where objects lie that have findings
    lists: set[str] = field(default_factory=set)  # of these, lists of unreadable shards, which are compared twice
    first: bool = True  # of several passes over one dataset: it checks the chain of snapshots
    last: bool = True  # and it checks the documents that no snapshot needs
    scores_url: str = ""  # as the document should have it
    samples: int = 0
    shards: int = 0
    scored: Store | None = None  # where score tables are, if that is below the dataset's root
    checked: npt.NDArray[np.uint64] | None = None  # see `ScoreChecks.checked`

    def findings(self) -> Iterator[Finding]:
        """Every finding, as it is made. Of a ledger without snapshots (an interrupted run, shared scores), those of its
        documents."""
        for finding in self._of_snapshot():
            self.found.add(finding.object)
            yield finding
        if self.last:
            checked = range(self.number, self.number + 1 if self.first else LAST + 1)  # of all passes together
            yield from unreferenced_documents.check_loose(self.out, self.repairs, self.found, numbers=checked)
        if self.last and self.scored is not None:
            yield from unreferenced_documents.check_loose(self.scored, self.repairs, self.found, self.checked)

    def _of_snapshot(self) -> Iterator[Finding]:
        if self.first:
            links = chain.ChainCheck(self.out, self.repairs, self.accept_loss)
            yield from links.findings()
            self.lost = links.given_up
        raw = read_raw(self.out, self.number) if self.number else None
        if raw is None:
            return  # the chain has said so
        try:
            recipe = parse_recipe(json.dumps(raw.get("recipe")), "the snapshot's recipe", of_snapshot=True)
        except (RecipeError, UserError) as error:
            where = self.out.location(snapshot_key(self.number))
            yield Finding("document", where, f"field `recipe` can't be read: {error}", "", "restore it from a backup")
            yield from check_stored(self.out, raw, self.engine, self.repairs)
            return
        with ExitStack() as stack:
            spool = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tutelage-")))
            yield from self._of_recipe(raw, recipe, spool, stack)
        yield from evaluations.check_evaluations(self.out, self.number, self.repairs)

    # --- what the pipeline needs ------------------------------------------------------------------------------

    def _of_recipe(self, raw: Mapping[str, Any], recipe: Recipe, spool: Path, stack: ExitStack) -> Iterator[Finding]:
        found, plan = self._plan(raw, recipe, spool)
        yield from found
        lists, texts, whole = snapshot_document.check_lists(self.out, self.number, raw, recipe, self.repairs)
        yield from lists
        found, aside = check_unreadable(self.out, raw, partial(self._inputs, raw), self.repairs)
        yield from found
        self.lists = {finding.object for finding in [*lists, *found]}
        if plan is None or not whole or aside is None:
            yield from check_stored(self.out, raw, self.engine, self.repairs)
            return
        where = self.out.location(snapshot_key(self.number))
        self.scores_url = self._scores_url(raw, recipe, plan, aside)
        settled = {"fingerprints": dict(plan.document.fingerprints), "scores_url": self.scores_url}
        try:
            made = snapshots.Snapshot(self.out, snapshot_document.openable({**raw, **settled}, self.number))
            work = stack.enter_context(pipeline_of(made, plan=plan, texts=texts, aside=aside))
        except (TutelageError, ValidationError) as error:
            what = f"can't be carried out again: {str(error).splitlines()[0]}"
            why = getattr(error, "fix", "") or "restore it from a backup"
            yield Finding("document", where, what, "", why)
            yield from check_stored(self.out, raw, self.engine, self.repairs)
            return
        known = known_versions(work.scored.store, raw.get("software"))
        subject = Subject(self.out, self.number, raw, work, plan, self.repairs, self.engine, self.shown, self.notes,
                          self.found, known)  # fmt: skip
        yield from self._checked(subject)

    def _checked(self, subject: Subject) -> Iterator[Finding]:
        """All that can be recomputed."""
        raw, work = subject.raw, subject.work
        yield from snapshot_document.check_scorers(
            self.out, self.number, work.recipe, subject.stale, subject.same_software
        )
        tables = ScoreChecks(subject, self.rescore, self.seed)
        yield from tables.findings()
        self.samples, self.checked = tables.samples, tables.checked()
        self.scored = work.scored.store if self.scores_url.startswith("./") else None
        if tables.doubted:
            self.notes.append(
                "until the score tables are repaired, the written data are compared with stored hashes alone"
            )
            yield from check_stored(self.out, raw, self.engine, self.repairs)
            return
        written = WriteChecks(subject, self.scores_url, tables.evidence, self.lists)
        yield from written.findings()
        self.shards = written.shards

    def _scores_url(self, raw: Mapping[str, Any], recipe: Recipe, plan: Plan, without: Mapping[ShardRef, str]) -> str:
        """Where the score tables are: as the document says, or as the recipe says where they are there and not here."""
        first = next((shard for shard in plan.shards() if shard not in without), next(plan.shards()))
        key = f"units/{unit_id(first, plan.document.fingerprints[INDEX])}.json"
        ours, theirs = str(raw.get("scores_url")), recipe.scores
        for url in dict.fromkeys([ours, theirs]):
            with suppress(TutelageError, ValidationError):
                if snapshot_document.openable({**raw, "scores_url": url}, self.number).scores_at(self.out).exists(key):
                    return url
        return ours

    def _plan(self, raw: Mapping[str, Any], recipe: Recipe, spool: Path) -> tuple[list[Finding], Plan | None]:
        corpus = open_corpus(recipe.corpus, recipe.options)
        prints = [raw.get("fingerprints"), recipe.fingerprints]
        contexts = [{"corpus": corpus.to_json(), "fingerprints": one} for one in prints if isinstance(one, dict)]
        rows: list[plans.Rows] = [partial(self._recorded, raw), partial(_listed, corpus, spool)]
        scratch = open_store(str(spool / "plan"))
        return plans.check_plan(self.out, str(raw.get("plan")), contexts, rows, scratch, self.repairs)

    def _recorded(self, raw: Mapping[str, Any]) -> Iterator[ShardRef]:
        """The input shards, as the commit records of the snapshot's write units have them, in order."""
        for item in self._inputs(raw):
            yield ShardRef(item["key"], item["size"], item["etag"])

    def _inputs(self, raw: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The same as in the records: `key`, `size`, `etag`, `reason` and counts of each."""
        for unit in read_index(self.out, raw, "manifest").column("unit").to_pylist():
            yield from (read_object(self.out, f"units/{unit}.json") or {})["inputs"]


def _listed(corpus: Any, spool: Path) -> Iterator[ShardRef]:
    for batch in corpus.listing(spool):
        yield from (ShardRef(*row.values()) for row in batch.to_pylist())
