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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from curation import snapshot as snapshots
from curation.corpus import open_corpus
from curation.data import ShardRef
from curation.errors import RecipeError, StoreError, TutelageError, UserError
from curation.ledger import Ledger, Plan, digest, unit_id
from curation.parquet import from_parquet
from curation.recipe import Recipe, parse_recipe
from curation.scores import INDEX
from curation.snapshot_numbers import read_raw, snapshot_key
from curation.software import software, software_id
from curation.store import Store, open_store
from curation.verification import attached, chain, described, loose, planned, rescored
from curation.verification.comparison import Comparison
from curation.verification.differences import read_object
from curation.verification.findings import Finding
from curation.verification.repairs import Mender
from curation.verification.scored import SCORED_AGAIN, CheckedUnit, ScoredCheck
from curation.verification.unread import check_unreadable
from curation.verification.written import OTHER_DECISIONS, IndexedUnits, WrittenCheck
from jobs.checking import Here, OnRay
from jobs.decided import Decided, Written
from jobs.pipeline import Pipeline, pipeline_of
from jobs.progress import Tick


@contextmanager
def quiet(label: str, total: int | None) -> Iterator[Tick]:
    """No progress."""
    yield lambda n: None


@dataclass
class Checks:
    """One pass over one snapshot. `rescore`: the share of units whose scores are compared with the models."""

    out: Store
    number: int
    mend: Mender
    engine: Here | OnRay
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

    def findings(self) -> Iterator[Finding]:
        """Every finding, as it is made. Of a ledger without snapshots (an interrupted run, shared scores), those of its
        documents."""
        for finding in self._of_snapshot():
            self.found.add(finding.object)
            yield finding
        if self.last:
            yield from loose.check_loose(self.out, self.mend, self.found)

    def _of_snapshot(self) -> Iterator[Finding]:
        if self.first:
            links = chain.ChainCheck(self.out, self.mend, self.accept_loss)
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
            yield from self._stored(raw)
            return
        with ExitStack() as stack:
            spool = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tutelage-")))
            yield from self._of_recipe(raw, recipe, spool, stack)
        yield from attached.check_evaluations(self.out, self.number, self.mend)

    # --- what the pipeline needs ------------------------------------------------------------------------------

    def _of_recipe(self, raw: Mapping[str, Any], recipe: Recipe, spool: Path, stack: ExitStack) -> Iterator[Finding]:
        found, plan = self._plan(raw, recipe, spool)
        yield from found
        lists, texts, whole = described.check_lists(self.out, self.number, raw, recipe, self.mend)
        yield from lists
        found, aside = check_unreadable(self.out, raw, partial(self._inputs, raw), self.mend)
        yield from found
        self.lists = {finding.object for finding in found}
        if plan is None or not whole or aside is None:
            yield from self._stored(raw)
            return
        where = self.out.location(snapshot_key(self.number))
        self.scores_url = self._scores_url(raw, recipe, plan, aside)
        settled = {"fingerprints": dict(plan.document.fingerprints), "scores_url": self.scores_url}
        try:
            made = snapshots.Snapshot(self.out, described.openable({**raw, **settled}, self.number))
            work = stack.enter_context(pipeline_of(made, plan=plan, texts=texts, aside=aside))
        except (TutelageError, ValidationError) as error:
            what = f"can't be carried out again: {str(error).splitlines()[0]}"
            why = getattr(error, "fix", "") or "restore it from a backup"
            yield Finding("document", where, what, "", why)
            yield from self._stored(raw)
            return
        yield from self._tables(work, plan)
        if self.rescore and work.recipe.scorers.keys() - _stale(work):
            yield from self._rescored(raw, work, plan)
        yield from self._decided(raw, work, plan)

    def _scores_url(self, raw: Mapping[str, Any], recipe: Recipe, plan: Plan, without: Mapping[ShardRef, str]) -> str:
        """Where the score tables are: as the document says, or as the recipe says where they are there and not here."""
        first = next((shard for shard in plan.shards() if shard not in without), next(plan.shards()))
        key = f"units/{unit_id(first, plan.document.fingerprints[INDEX])}.json"
        ours, theirs = str(raw.get("scores_url")), recipe.scores
        for url in dict.fromkeys([ours, theirs]):
            with suppress(TutelageError, ValidationError):
                if described.openable({**raw, "scores_url": url}, self.number).scores_at(self.out).exists(key):
                    return url
        return ours

    def _plan(self, raw: Mapping[str, Any], recipe: Recipe, spool: Path) -> tuple[list[Finding], Plan | None]:
        corpus = open_corpus(recipe.corpus, recipe.options)
        prints = [raw.get("fingerprints"), recipe.fingerprints]
        contexts = [{"corpus": corpus.to_json(), "fingerprints": one} for one in prints if isinstance(one, dict)]
        rows: list[planned.Rows] = [partial(self._recorded, raw), partial(_listed, corpus, spool)]
        scratch = open_store(str(spool / "plan"))
        return planned.check_plan(self.out, str(raw.get("plan")), contexts, rows, scratch, self.mend)

    def _recorded(self, raw: Mapping[str, Any]) -> Iterator[ShardRef]:
        """The input shards, as the commit records of the snapshot's write units have them, in order."""
        for item in self._inputs(raw):
            yield ShardRef(item["key"], item["size"], item["etag"])

    def _inputs(self, raw: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The same as in the records: `key`, `size`, `etag`, `reason` and counts of each."""
        for unit in self._index(raw, "manifest").column("unit").to_pylist():
            yield from (read_object(self.out, f"units/{unit}.json") or {})["inputs"]

    # --- score tables -----------------------------------------------------------------------------------------

    def _tables(self, work: Pipeline, plan: Plan) -> Iterator[Finding]:
        stale = _stale(work)
        if stale:
            self.notes.append(f"made by another version of the software, not recomputed: {', '.join(sorted(stale))}")
        check = ScoredCheck(
            work.corpus.store(), work.scored, work.recipe.limits, work.columns, stale, self.mend, work.recipe.caption
        )
        lacking: list[CheckedUnit] = []
        with self.shown("Checking score tables", plan.units) as tick:
            readable = (shard for shard in plan.shards() if shard not in work.unreadable)
            for result in self.engine.spread(check.check, readable):
                self.samples += result.seen
                if result.lacks and self.mend.id:
                    lacking.append(result)
                else:
                    yield from result.findings
                tick(1)
        if lacking:
            yield from self._again(work, check, lacking)

    def _again(self, work: Pipeline, check: ScoredCheck, lacking: Sequence[CheckedUnit]) -> Iterator[Finding]:
        """Score what must be scored again, and check it once more."""
        why = ""
        names = sorted({name for unit in lacking for name in unit.lacks})
        try:
            self.engine.again(work, [unit.shard for unit in lacking], names)
        except TutelageError as error:
            why = f"scoring it again failed: {error}" + (f" -- {error.fix}" if error.fix else "")
        left = {unit.shard: unit.lacks for unit in self.engine.spread(check.check, [unit.shard for unit in lacking])}
        for unit in lacking:
            for finding in unit.findings:
                if finding.how != SCORED_AGAIN:
                    yield finding
                elif left.get(unit.shard):
                    yield Finding(finding.code, finding.object, finding.what, "", why or "it is still damaged")
                else:
                    yield finding.done(True)

    def _rescored(self, raw: Mapping[str, Any], work: Pipeline, plan: Plan) -> Iterator[Finding]:
        """Compare a share of the scores with what the models say now."""
        decision = str(raw.get("decision_id"))

        def readable() -> Iterator[ShardRef]:
            return (shard for shard in plan.shards() if shard not in work.unreadable)

        def drawn() -> Iterator[ShardRef]:
            return (shard for shard in readable() if rescored.drawn(decision, self.seed, shard, self.rescore))

        number = sum(1 for _ in drawn())
        some = drawn() if number else iter([next(readable())])
        with self.shown("Scoring again", number or 1) as tick:
            names = [name for name in work.recipe.scorers if name not in _stale(work)]
            for found in self.engine.rescore(work, names, some, self.mend):
                yield from found
                tick(1)

    # --- decisions and what was written -----------------------------------------------------------------------

    def _decided(self, raw: Mapping[str, Any], work: Pipeline, plan: Plan) -> Iterator[Finding]:
        then = work.others.as_then(work.others.pins)
        same = raw.get("decision_id") == work.decision_id(plan, then)
        anchored = same or not chain.recipe_differs(raw)
        units = IndexedUnits(self._index(raw, "shards"), self._index(raw, "manifest"))
        try:
            with work.decide(plan, lambda n: None) as decided:
                written, whole = Written(), True
                free = self._same_software(raw)
                check = WrittenCheck(work.corpus.store(), work.scored, self.out, self.mend, anchored, free)
                with self.shown("Checking write units", len(units.parts)) as tick:
                    groups = decided.groups(work.recipe.shards.samples)
                    pairs = ((group, units.of(group.id, place)) for place, group in enumerate(groups))
                    for result in self.engine.spread(check.check, pairs):
                        yield from result.findings
                        whole, anchored = whole and result.record is not None, anchored and result.agrees
                        if result.blocked:
                            what = f"can't be rebuilt: {result.blocked}"
                            yield from self._blocked(self.out.location(f"units/{result.unit}.json"), what)
                        if result.record is not None:
                            written.add({**result.record, "unit": result.unit})
                        tick(1)
                if whole:
                    yield from self._described(raw, work, plan, decided, written, anchored)
                else:
                    yield from described.check_named(self.out, raw)
        except TutelageError as error:
            what = f"the filters can't run again: {error}"
            yield from self._blocked(self.out.location(snapshot_key(self.number)), what, error.fix)
            yield from self._stored(raw)

    def _blocked(self, where: str, what: str, fix: str = "") -> Iterator[Finding]:
        """What could not be recomputed: a note beside the finding that is its cause, else a finding of its own."""
        if self.found:
            self.notes.append(f"{where}: {what}")
        else:
            yield Finding("blocked", where, what, "", fix or "see what is wrong there, and verify again")

    def _described(
        self, raw: Mapping[str, Any], work: Pipeline, plan: Plan, decided: Decided, written: Written, anchored: bool
    ) -> Iterator[Finding]:
        """The indexes and the document, from what the units add up to."""
        self.shards = written.tables()[0].num_rows

        def named(name: str, suffix: str) -> Sequence[Sequence[Any]]:
            lists = raw.get("lists")
            within = lists if name in described.LISTS and isinstance(lists, Mapping) else raw
            item = within.get(name)  # `weights` of the document are those of models
            return [[item]] if isinstance(item, Mapping) and isinstance(item.get("key"), str) else []

        frozen = "" if anchored else OTHER_DECISIONS
        same = self._same_software(raw)
        compared = Comparison(self.out, self.mend, named, what="index", frozen=frozen, free=same)
        real, work.out = work.out, compared
        try:
            expected = work.document(plan, decided, written)
        finally:
            work.out = real
        yield from (finding for finding in compared.findings if finding.object not in self.lists)
        yield from described.check_urls(self.out, self.number, raw, written.tables()[0], self.mend, frozen=frozen)
        expected |= {"fingerprints": dict(plan.document.fingerprints), "recipe": raw["recipe"]}
        expected["recipe_sha256"] = digest(raw["recipe"])
        if not same and raw.get("decision_id") != expected["decision_id"] and anchored:
            expected["decision_id"] = raw.get("decision_id")
            self.notes.append("decision_id is of another version of the software; the decisions are the same")
        if isinstance(units := raw.get("units"), Mapping) and "reasons" not in units:
            expected["units"].pop("reasons")  # as in documents of earlier versions
        if raw.get("scores_url") == self.scores_url:  # as earlier versions wrote it
            expected["scores_url"] = self.scores_url
        yield from described.check_document(self.out, self.number, raw, expected, anchored=anchored, mend=self.mend)

    @staticmethod
    def _same_software(raw: Mapping[str, Any]) -> bool:
        """Whether the software that made the snapshot is that of this process."""
        made_by = raw.get("software")
        return isinstance(made_by, Mapping) and list(made_by) == [software_id(software())]

    # --- where nothing can be recomputed ----------------------------------------------------------------------

    def _stored(self, raw: Mapping[str, Any]) -> Iterator[Finding]:
        yield from described.check_named(self.out, raw)
        units = IndexedUnits(self._index(raw, "shards"), self._index(raw, "manifest"))
        check = WrittenCheck(self.out, Ledger(self.out), self.out, self.mend, anchored=False, free=False)
        for result in self.engine.spread(check.check_stored, units.all()):
            yield from result.findings

    def _index(self, raw: Mapping[str, Any], name: str) -> pa.Table:
        """An index as it is there; empty where it can't be read."""
        schema = snapshots.SHARDS_SCHEMA if name == "shards" else snapshots.PARTS_SCHEMA
        item = raw.get(name)
        key = str(item.get("key", "")) if isinstance(item, Mapping) else ""
        try:
            return from_parquet(self.out.get(key), schema.names).cast(schema)
        except (pa.ArrowException, OSError, KeyError, ValueError, StoreError):
            return schema.empty_table()


def _stale(work: Pipeline) -> frozenset[str]:
    """The columns that this version of the software would not make as they were made."""
    ours = work.recipe.fingerprints
    return frozenset(column.name for column in work.columns if ours.get(column.name) != column.fingerprint)


def _listed(corpus: Any, spool: Path) -> Iterator[ShardRef]:
    for batch in corpus.listing(spool):
        yield from (ShardRef(*row.values()) for row in batch.to_pylist())
