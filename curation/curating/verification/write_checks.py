"""The checks of what was written: decisions, write units, indexes and the snapshot's document."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curation.core.digest import digest
from curation.core.errors import StoreError, TutelageError
from curation.curating.plan_decision import decide
from curation.curating.planning import decision_id
from curation.curating.snapshot_making import snapshot_fields
from curation.curating.verification import chain, snapshot_document
from curation.curating.verification.comparison import Comparison
from curation.curating.verification.findings import Finding
from curation.curating.verification.recomputed_values import Recomputed
from curation.curating.verification.repairs import RepairWriter
from curation.curating.verification.subject import CheckRunner, Subject
from curation.curating.verification.versions import is_newer
from curation.curating.verification.write_units import OTHER_DECISIONS, IndexedUnits, WrittenCheck
from curation.curating.write_groups import WriteGroups, WrittenTotals
from curation.dataset import snapshot as snapshots
from curation.ledger.ledger import Ledger
from curation.ledger.recipe_edits import SHORT_FORMS, place_of
from curation.ledger.snapshot_keys import snapshot_key
from curation.storage.parquet import from_parquet
from curation.storage.store import Store


@dataclass
class WriteChecks:
    """`scores_url`: as the document should have it. `evidence`: values of score tables that were recomputed."""

    subject: Subject
    scores_url: str
    evidence: Recomputed
    lists: Collection[str] = ()  # objects of edit lists, uid lists and unreadable shards that have findings
    shards: int = 0

    def findings(self) -> Iterator[Finding]:
        """Every finding."""
        subject, work = self.subject, self.subject.work
        raw, plan = subject.raw, subject.plan
        then = work.others.as_then(work.others.pins)
        same = raw.get("decision_id") == decision_id(work, plan, then)
        anchored = same or not chain.recipe_differs(raw)
        units = indexed_units(subject.out, raw)
        try:
            with decide(work, plan, lambda n: None) as decided:
                written, whole = WrittenTotals(), True
                check = WrittenCheck(work.corpus.store(), work.scored, subject.out, subject.repairs, anchored,
                                     subject.same_software, self._newer, self.evidence)  # fmt: skip
                with subject.shown("Checking write units", len(units.parts)) as tick:
                    groups = decided.groups(work.recipe.shards.samples)
                    pairs = ((group, units.of(group.id, place)) for place, group in enumerate(groups))
                    for result in subject.engine.spread(check.check, pairs):
                        yield from result.findings
                        whole, anchored = whole and result.record is not None, anchored and result.agrees
                        if result.blocked:
                            what = f"can't be rebuilt: {result.blocked}"
                            yield from self._blocked(subject.out.location(f"units/{result.unit}.json"), what)
                        if result.record is not None:
                            written.add({**result.record, "unit": result.unit})
                        tick(1)
                if whole:
                    yield from self._described(decided, written, anchored)
                else:
                    yield from snapshot_document.check_named(subject.out, raw)
        except TutelageError as error:
            what = f"the filters can't run again: {error}"
            yield from self._blocked(subject.out.location(snapshot_key(subject.number)), what, error.fix)
            yield from check_stored(subject.out, raw, subject.engine, subject.repairs)

    def _blocked(self, where: str, what: str, fix: str = "") -> Iterator[Finding]:
        """What could not be recomputed: a note beside the finding that is its cause, else a finding of its own."""
        if self.subject.found:
            self.subject.notes.append(f"{where}: {what}")
        else:
            yield Finding("blocked", where, what, "", fix or "see what is wrong there, and verify again")

    @property
    def _newer(self) -> bool:
        return is_newer((self.subject.software or {}).values())

    def _described(self, decided: WriteGroups, written: WrittenTotals, anchored: bool) -> Iterator[Finding]:
        """The indexes and the document, from what the units add up to."""
        subject, work = self.subject, self.subject.work
        raw, out, repairs = subject.raw, subject.out, subject.repairs
        self.shards = written.tables()[0].num_rows

        def named(name: str, suffix: str) -> Sequence[Sequence[Any]]:
            lists = raw.get("lists")
            is_list = name in SHORT_FORMS or place_of(name) is not None
            within = lists if is_list and isinstance(lists, Mapping) else raw
            item = within.get(name)  # `weights` of the document are those of models
            return [[item]] if isinstance(item, Mapping) and isinstance(item.get("key"), str) else []

        frozen = "" if anchored else OTHER_DECISIONS
        same = subject.same_software
        compared = Comparison(out, repairs, named, what="index", frozen=frozen, free=same)
        expected = snapshot_fields(work, compared, subject.plan, decided, written)
        yield from (finding for finding in compared.findings if finding.object not in self.lists)
        yield from snapshot_document.check_urls(out, subject.number, raw, written.tables()[0], repairs, frozen=frozen)
        expected |= {"fingerprints": dict(subject.plan.document.fingerprints), "recipe": raw["recipe"]}
        expected["recipe_sha256"] = digest(raw["recipe"])
        if not same and raw.get("decision_id") != expected["decision_id"] and anchored:
            expected["decision_id"] = raw.get("decision_id")
            subject.notes.append("decision_id is of another version of the software; the decisions are the same")
        if isinstance(units := raw.get("units"), Mapping) and "reasons" not in units:
            expected["units"].pop("reasons")  # as in documents of earlier versions
        if raw.get("scores_url") == self.scores_url:  # as earlier versions wrote it
            expected["scores_url"] = self.scores_url
        yield from snapshot_document.check_document(out, subject.number, raw, expected, anchored=anchored,
                                            repairs=repairs, software=subject.software)  # fmt: skip


def check_stored(out: Store, raw: Mapping[str, Any], engine: CheckRunner, repairs: RepairWriter) -> Iterator[Finding]:
    """What the document names against the hashes that it has for it, where nothing can be recomputed."""
    yield from snapshot_document.check_named(out, raw)
    check = WrittenCheck(out, Ledger(out), out, repairs, anchored=False, free=False)
    for result in engine.spread(check.check_stored, indexed_units(out, raw).all()):
        yield from result.findings


def indexed_units(out: Store, raw: Mapping[str, Any]) -> IndexedUnits:
    """What the two indexes of a snapshot have of its write units."""
    return IndexedUnits(read_index(out, raw, "shards"), read_index(out, raw, "manifest"))


def read_index(out: Store, raw: Mapping[str, Any], name: str) -> pa.Table:
    """An index as it is there; empty where it can't be read."""
    schema = snapshots.SHARDS_SCHEMA if name == "shards" else snapshots.PARTS_SCHEMA
    item = raw.get(name)
    key = str(item.get("key", "")) if isinstance(item, Mapping) else ""
    try:
        return from_parquet(out.get(key), schema.names).cast(schema)
    except (pa.ArrowException, OSError, KeyError, ValueError, StoreError):
        return schema.empty_table()
