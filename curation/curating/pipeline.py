"""One curation run, step by step: plan, score, decide, write, snapshot. `curate run` calls them in order.

Each step can be repeated at no cost: what the ledger holds is found there. The driver holds one page of the plan, the
decision engine's bounded memory and a spool on local disk; image bytes and embeddings never pass through it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.core.digest import digest
from curation.core.errors import IncompleteError, StoreError, YieldError, locating
from curation.core.executor import Executor
from curation.core.parallel import map_ordered
from curation.core.printable import printable
from curation.core.progress import Tick
from curation.core.software import of_this_process
from curation.core.types import ShardRef
from curation.curating import acceptance, decisions, score_store, writing
from curation.curating.compared_snapshots import ComparedSnapshots, open_others
from curation.curating.scoring.batches import shard_refs
from curation.curating.scoring.dispatch import score
from curation.curating.scoring.unit_scorer import ScoringTask, check_scorers
from curation.curating.write_groups import RecordSpool, WriteGroups, WrittenTotals
from curation.dataset import snapshot
from curation.dataset.corpus import Corpus, left_out_message, open_corpus
from curation.filters import ComparingFilter, flat
from curation.filters.named import columns_needed, described
from curation.ledger import score_tables, score_values, unreadable
from curation.ledger.documents import SnapshotDocument, relative_url
from curation.ledger.ledger import Ledger
from curation.ledger.plans import Plan
from curation.ledger.uid_lists import UidList, parse_list, read_list
from curation.recipes.curation_recipe import Recipe, parse_recipe
from curation.recipes.entries import columns_of, kinds_of
from curation.storage.parquet import to_parquet, write_parquet
from curation.storage.pinned_file import PinnedFile
from curation.storage.probe import probe
from curation.storage.store import StoreOptions, open_store
from curation.storage.tables import local_disk

UNITS_SCHEMA = pa.schema(
    [
        ("shard_key", pa.string()),
        ("shard_size", pa.int64()),
        ("shard_etag", pa.string()),
        ("lacks", pa.list_(pa.dictionary(pa.int8(), pa.string()))),  # columns that nobody has committed
    ]
)
Fields = Mapping[score_tables.Column, Mapping[str, pa.DataType]]
MAX_PASSES = 5  # scoring passes that get something done before the run gives up on the rest


@dataclass
class RunCounts:
    """What a run did: all zeros for a run that found everything done."""

    units_scored: int = 0
    samples_scored: int = 0
    score_puts: int = 0
    model_batches: int = 0
    groups_written: int = 0
    data_puts: int = 0
    snapshot: int = 0
    new_snapshot: bool = False

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "data_puts": self.data_puts + self.score_puts}


@dataclass
class Pipeline:
    """A recipe with its stores open. Use `pipeline(recipe)`, which probes them and pins the weights."""

    recipe: Recipe
    spool: Path
    corpus: Corpus
    out: Ledger
    scored: Ledger
    columns: Sequence[score_tables.Column]  # the index, then one a scorer
    lists: Mapping[str, UidList]  # keep, drop, weights
    others: ComparedSnapshots  # the snapshots that filters compare with
    unreadable: dict[ShardRef, str] = field(default_factory=dict)  # shards that are set aside, and why
    left_out: dict[str, Any] = field(default_factory=dict)  # shards of datasets below the corpus: how many, and one
    work: RunCounts = field(default_factory=RunCounts)
    checked: bool = False  # `check_weights` was called, so workers need not do it
    software: dict[str, dict[str, str]] = field(default_factory=of_this_process)  # digest -> package -> version

    @property
    def fingerprints(self) -> dict[str, str]:
        return {column.name: column.fingerprint for column in self.columns}

    # --- plan -------------------------------------------------------------------------------------------------

    def plan(self, *, write: bool = True) -> Plan:
        """List the corpus and pin it. With `write=False` the plan stays on local disk, for as long as this pipeline."""
        context = {"corpus": self.corpus.to_json(), "fingerprints": self.fingerprints}
        ledger = self.out if write else Ledger(open_store(str(self.spool / "plan")))
        return ledger.plan(self.corpus.listing(self.spool, self._left_out), context)

    def _left_out(self, shards: int, example: str) -> None:
        self.left_out = {"shards": shards, "example": example}
        print(printable(left_out_message(self.corpus.root, shards, example)), file=sys.stderr, flush=True)

    def decision_id(self, plan: Plan, others: ComparedSnapshots | None = None) -> str:
        """What decides a snapshot's content: two runs with the same id make the same snapshot."""
        aside = sha256(unreadable.listed(self.unreadable)).hexdigest() if self.unreadable else None
        return self._decision_id(plan.id, others, aside)

    def _decision_id(self, plan_id: str, others: ComparedSnapshots | None, aside: str | None) -> str:
        others = others or self.others
        filters = [[item.name, *described(item.filter)] for item in self.recipe.filters]
        lists = {name: item.sha256 for name, item in self.lists.items()}
        compared = [others.identity] if others.snapshots else []
        more = [["unreadable", aside]] if aside else []
        return digest([plan_id, filters, lists, self.recipe.shards.samples, writing.WRITER_VERSION, *compared, *more])

    def current(self, plan: Plan) -> SnapshotDocument | None:
        """The latest snapshot's document if it is already what this plan and recipe would make."""
        if not self.out.latest():
            return None
        document = self.out.snapshot()
        then = self.others.as_then(document.against)
        aside = document.unreadable.sha256 if document.unreadable else None
        if aside and self.recipe.on_unreadable == "stop":
            return None
        if document.decision_id == self._decision_id(plan.id, then, aside):
            return document
        if document.decision_id != self._decision_id(document.plan, then, aside):
            return None  # decided otherwise, whatever was planned
        return document if plan.same_as(self.out.open_plan(document.plan)) else None

    # --- score ------------------------------------------------------------------------------------------------

    def missing(self, plan: Plan) -> pa.Table:
        """The units that lack a table, as Arrow (about 100 bytes each), without those that are set aside. One small GET
        a unit and column."""

        return self._lacking(shard for shard in plan.shards() if shard not in self.unreadable)

    def recall_unreadable(self, plan: Plan) -> None:
        """Set aside what the latest snapshot was made without and what still lacks scores: to tell what is there. A run
        tries such shards again unless its snapshot is current."""
        self.unreadable.clear()
        latest = self.out.latest()
        if not latest or self.recipe.on_unreadable == "stop":
            return
        known = unreadable.read_list(self.out.store, self.out.snapshot(latest).unreadable)
        lacking = self._lacking(shard for shard in plan.shards() if shard in known) if known else self.nothing()
        self.unreadable.update((shard, known[shard]) for shard in shard_refs(lacking))

    @staticmethod
    def nothing() -> pa.Table:
        """What is missing where nothing is."""
        return UNITS_SCHEMA.empty_table()

    def take_out_damaged(self, plan: Plan, tick: Tick) -> int:
        """Take out score tables that are gone or damaged, so that they are missing; returns how many. Reads all."""

        def check(shard: ShardRef) -> list[str]:
            return score_store.take_out_damaged(self.scored, shard, self.columns)

        found = 0
        for names in map_ordered(check, plan.shards(), threads=4):
            found += len(names)
            tick(1)
        return found

    def _lacking(self, shards: Iterable[ShardRef]) -> pa.Table:
        def lacks(shard: ShardRef) -> tuple[ShardRef, list[str]]:
            return shard, score_tables.missing(self.scored, shard, self.columns)

        return lacking_units((shard, names) for shard, names in map_ordered(lacks, shards) if names)

    def score(self, units: pa.Table, tick: Tick, executor: Executor) -> None:
        """Score `units` until nothing is missing. Raises `IncompleteError` when a pass gets nothing done."""
        failures: Sequence[tuple[str, str]] = ()
        for _ in range(MAX_PASSES):
            failures, done = [], 0
            for progress in score(self.scoring(lacked_columns(units)), units, executor):
                tick(progress.samples)
                done += progress.units
                self.work.samples_scored += progress.samples
                self.work.units_scored += progress.units
                self.work.score_puts += progress.puts
                self.work.model_batches += progress.batches
                failures.extend(progress.failures)
            if done == units.num_rows:  # all of them were committed just now: nobody need be asked
                units = self.nothing()
                break
            units = self._lacking(shard_refs(units))
            if not units.num_rows or not done:
                break
        units = self._set_aside(units, failures)
        if units.num_rows:
            key, why = failures[0] if failures else (units.column(0)[0].as_py(), "its worker died repeatedly")
            fix = "run the same command again: what is done is kept"
            if unreadable.reason_of(why):
                fix = "see that it can be read, and run again; or `on_unreadable: quarantine` in the recipe"
            why = why.partition(": ")[2] or why
            raise IncompleteError(f"{units.num_rows} of the planned shards could not be scored; {key}: {why}", fix=fix)

    def _set_aside(self, units: pa.Table, failures: Iterable[tuple[str, str]]) -> pa.Table:
        """Those of the units that the recipe does not have set aside because the store refuses them for good."""
        self.unreadable.clear()
        if self.recipe.on_unreadable == "stop":
            return units
        reasons = {key: reason for key, why in failures if (reason := unreadable.reason_of(why))}
        left = []
        for shard in shard_refs(units):
            if shard.key in reasons:
                self.unreadable[shard] = reasons[shard.key]
            left.append(shard.key not in reasons)
        return units.filter(pa.array(left, pa.bool_()))

    def check_weights(self, lacked: Collection[str]) -> None:
        """Raise `PinnedFileError` for weights that don't fit their scorer, by the headers of their files.

        lacked: the columns to be scored; the models of others are not needed. Takes some seconds, in which torch is
        imported. Where the driver leaves it out, each worker does it before it loads its models.
        """
        check_scorers({name: self.recipe.scorers[name] for name in self.recipe.scorers if name in lacked},
                      self.recipe.places, self.recipe.options)  # fmt: skip
        self.checked = True

    def scoring(self, lacked: Sequence[str]) -> ScoringTask:
        """What the workers have to know. Models whose columns are all there already are not loaded."""
        (index, *columns), recipe = self.columns, self.recipe
        scorers = {name: scorer for name, scorer in recipe.scorers.items() if name in lacked}
        wanted = [column for column in columns if column.name in scorers]
        return ScoringTask(
            self.corpus.store(), self.scored, index, wanted, scorers, recipe.decoding, recipe.compute, recipe.caption,
            {} if self.checked else recipe.places,
        )  # fmt: skip

    # --- decide and write -------------------------------------------------------------------------------------

    @contextmanager
    def decide(self, plan: Plan, tick: Tick) -> Iterator[WriteGroups]:
        """Load the score tables of the plan and run the filters over them."""
        aside = self.unreadable
        if len(aside) > unreadable.MOST * plan.units:
            shard, reason = next(iter(aside.items()))
            text = f"{len(aside):,} of {plan.units:,} shards can't be read, such as {shard.key} ({reason})"
            raise StoreError(text, fix="check the credentials, their permissions, and the storage class of the shards")
        readable = next(shard for shard in plan.shards() if shard not in aside)
        fields = {column: found for column, found in self.fields(readable).items() if found}
        index, _ = columns_needed(self.recipe.filters)
        with (
            closing(RecordSpool(self.spool / "records")) as records,
            self.loaded(plan, plan.shards(), index, fields, tick, records=records) as decided,
        ):
            decided.engine.decide(self.recipe.filters, **self.listed())
            yield decided

    @contextmanager
    def loaded(
        self,
        plan: Plan,
        shards: Iterable[ShardRef],
        index: Sequence[str],
        fields: Fields,
        tick: Tick,
        made: Mapping[str, str] | None = None,
        kept: Path | None = None,
        records: RecordSpool | None = None,
    ) -> Iterator[WriteGroups]:
        """An engine with score tables of some of the plan's shards, and what its filters compare with.

        Of the index those columns, of the scores those of `fields`, and the vectors that the recipe's filters read;
        `made` and `kept` as the engine takes them. records: where to keep the commit records, of all the plan's shards.
        """
        kinds = {name: kind for found in fields.values() for name, kind in found.items()}
        wanted = set(columns_needed(self.recipe.filters)[1]) - kinds.keys()
        columns, vectors = [self.columns[0], *fields], [item for item in self.columns[1:] if item.name in wanted]
        names, memory = [column.name for column in vectors], self.recipe.compute.memory
        with decisions.Decisions(self.spool, index, kinds, names, made=made, memory=memory, kept=kept) as engine:
            decided = WriteGroups(engine, plan, columns, records=records)
            if kept is None:
                lengths = partial(writing.written_lengths, samples_per_shard=self.recipe.shards.samples)
                keep = records.add if records is not None else None
                units = score_tables.load_units(
                    self.scored, shards, columns, index, vectors, lengths, self.unreadable, keep
                )
                engine.load(decided.collect(units, tick))
            filters = [item.filter for item in self.recipe.filters]
            self.others.load(engine, filters, self.columns)
            yield decided

    def fields(self, shard: ShardRef, without: Collection[str] = ()) -> Fields:
        """Of every scorer the names and types of its numbers and words, none of a vector; any shard tells."""
        wanted = [column for column in self.columns[1:] if column.name not in without]
        return {column: score_tables.fields(self.scored, shard, column) for column in wanted}

    def declared(self) -> Fields:
        """The same as the recipe's scorers declare them: no store is asked."""
        kinds = {column: columns_of(column.name, self.recipe.scorers[column.name]) for column in self.columns[1:]}
        return {
            column: {name: kind for name, kind in found.items() if not score_values.is_vector(kind)}
            for column, found in kinds.items()
        }

    def listed(self) -> dict[str, Any]:
        """The lists that override filters, as `Decisions.decide` takes them."""
        lists: dict[str, Any] = {name: self.lists[name].uids for name in ("keep", "drop") if name in self.lists}
        return lists | ({"weights": self.lists["weights"].weighed()} if "weights" in self.lists else {})

    def expect_yield(self, plan: Plan, decided: WriteGroups) -> None:
        """Raise `YieldError` for a decision that is more likely a mistake than meant, before any byte is written."""
        for line in self.refusals(plan, decided):
            raise YieldError(f"no snapshot is made: {line}", fix=acceptance.FIX)

    def refusals(self, plan: Plan, decided: WriteGroups, samples: Mapping[str, Any] | None = None) -> Iterator[str]:
        """Why `curate run` would make no snapshot of a decision. `samples`: its totals, where known."""
        samples = samples or decided.engine.totals()
        causes = {}
        quarantined: Any = samples["quarantined"]
        if "score_not_finite" in quarantined:
            bad = decided.engine.not_finite()
            causes["score_not_finite"] = ", ".join(f"{name} is NaN or missing for {n:,}" for name, n in bad.items())
        latest = self.out.latest()
        parent = self.out.snapshot(latest)["samples"] if latest else None
        units = {"total": plan.units, "empty": decided.empty}
        yield from acceptance.refusals(samples, units, most=self.recipe.max_quarantined, parent=parent, causes=causes)

    def write(self, decided: WriteGroups, tick: Tick, executor: Executor) -> WrittenTotals:
        """Commit every group of the decision."""
        writer = writing.GroupWriter(self.corpus.store(), self.scored, self.out)
        workers = self.recipe.compute.write_workers or None
        written, groups = WrittenTotals(), decided.groups(self.recipe.shards.samples)
        for record in executor.map(writer.write, groups, ordered=False, concurrency=workers):
            tick(record["seen"])
            written.add(record)
            self.work.groups_written += record["made"]
            self.work.data_puts += record["made"] * (1 + len(record["shards"]))
        return written

    def commit(self, plan: Plan, decided: WriteGroups, written: WrittenTotals) -> SnapshotDocument:
        """Make the snapshot, after every unit's counts balanced."""
        if written.units != plan.units:
            raise IncompleteError(f"{written.units} of {plan.units} shards were written", fix="run the command again")
        made = self.out.create_snapshot(self.document(plan, decided, written))
        self.work.snapshot, self.work.new_snapshot = made.snapshot, True
        return made

    def document(self, plan: Plan, decided: WriteGroups, written: WrittenTotals) -> dict[str, Any]:
        """The document of the snapshot that these units make, but for its number and parent; puts what it names."""
        scorers = self.recipe.scorers
        shards, parts = written.tables()
        urls = "".join(f"{key}\n" for key in shards.column("key").to_pylist())
        return {
            "decision_id": self.decision_id(plan),
            "plan": plan.id,
            "recipe": dict(self.recipe.document),
            "recipe_sha256": self.recipe.sha256,
            "scores_url": relative_url(self.scored.store, self.out.store),
            "software": self.software,
            "fingerprints": self.fingerprints,
            "weights": {name: files[0].sha256 for name, scorer in scorers.items() if (files := scorer.files())},
            "scores": list(decided.engine.scores),
            "score_types": {name: str(kind) for name, kind in decided.engine.scores.items()},
            "units": written.counts(),
            "samples": written.samples,
            "shards": self._named("shards", to_parquet(shards), "parquet"),
            "manifest": self._named("manifest", to_parquet(parts), "parquet"),
            "urls": self._named("urls", urls.encode(), "txt"),
            "groups": [group.to_json() for group in decided.engine.groups()],
            "lists": {name: self._named(name, item.text, "txt") for name, item in self.lists.items()},
            **self._compared(decided),
            **(
                {"unreadable": self._named("unreadable", unreadable.listed(self.unreadable), "json")}
                if self.unreadable
                else {}
            ),
        }

    def _compared(self, decided: WriteGroups) -> dict[str, Any]:
        """Which snapshots were compared with, and a Parquet of what matched what."""
        if not self.others.snapshots:
            return {}
        path = self.spool / "matches.parquet"
        write_parquet(path, decided.engine.matches())
        matches = self.out.put_data_file("matches", path, "parquet")
        self.work.data_puts += 1
        path.unlink()
        return {"against": self.others.pins, "matches": matches.to_json()}

    def _named(self, name: str, data: bytes, suffix: str) -> dict[str, Any]:
        self.work.data_puts += 1
        return self.out.put_data(name, data, suffix).to_json()


@contextmanager
def pipeline(recipe: Recipe, *, dry: bool = False) -> Iterator[Pipeline]:
    """Open a recipe's stores. Refuses, before any work: unsafe stores, missing or wrong weights, bad lists."""
    _check_files(recipe.files(), recipe.options)
    out, scored = (Ledger(open_store(url, recipe.options)) for url in (recipe.output, recipe.scores))
    corpus = open_corpus(recipe.corpus, recipe.options)
    corpus.expect_outside({"output": out.store, "scores": scored.store})
    named = (("keep", recipe.keep), ("drop", recipe.drop), ("weights", recipe.weights))
    lists = {name: read_list(name, url, recipe.options) for name, url in named if url}
    filters = [item.filter for item in recipe.filters]
    others = open_others(filters, recipe.output, recipe.options)
    others.expect(filters, recipe.columns)
    if not dry:
        probe(out.store)
        probe(scored.store)
    with local_disk("temporary files"), tempfile.TemporaryDirectory(prefix="tutelage-") as spool:
        _try_filters(recipe, Path(spool))
        yield Pipeline(recipe, Path(spool), corpus, out, scored, recipe.columns, lists, others)


def _try_filters(recipe: Recipe, spool: Path) -> None:
    """Run the filters over no samples, before any is scored: what a filter can't read is said now. 0.1 s."""
    kinds = kinds_of(recipe.scorers)
    index, wanted = columns_needed(recipe.filters)
    vectors = [name for name in wanted if score_values.is_vector(kinds[name])]
    plain = {name: kinds[name] for name in wanted if name not in vectors}
    memory = recipe.compute.memory
    with decisions.Decisions(spool, index, plain, vectors, memory=memory) as engine:
        items = [item for item in flat(named.filter for named in recipe.filters) if isinstance(item, ComparingFilter)]
        for name, columns in {item.others(): item.compared() for item in items}.items():
            engine.load_others(name, columns, [])
        engine.decide(recipe.filters)


def _check_files(files: Iterable[tuple[str, PinnedFile]], options: StoreOptions) -> None:
    """Check that every file's URL holds the pinned bytes, and cache them on this machine."""
    for file, what in {file: what for what, file in files}.items():
        with locating(what):
            file.check(options)


@contextmanager
def pipeline_of(
    made: snapshot.Snapshot,
    *,
    plan: Plan | None = None,
    texts: Mapping[str, bytes] | None = None,
    aside: Mapping[ShardRef, str] | None = None,
) -> Iterator[Pipeline]:
    """The pipeline that made a snapshot, as its document pins it: nothing is taken from today's files but the bytes.

    `plan`, `texts` of its lists and `aside`, the shards that it was made without: where what the document names of
    them is damaged and they are known otherwise.
    """
    document, options = made.document, made.store.options
    name = f"recipe of {made.store.url}@{made.number}"
    recipe = parse_recipe(json.dumps(document["recipe"]), name, of_snapshot=True)
    for what, file in recipe.files(scorers=False):
        with locating(what):
            file.fetch(options)  # where the cache has these bytes, whatever lies at the URL by now
    out = Ledger(made.store)
    where = (plan or out.open_plan(document["plan"])).document["corpus"]
    corpus = Corpus(where["root"], tuple(where["patterns"]), where["snapshot"], options)
    columns = [
        score_tables.Column(name, document["fingerprints"][name]) for name in (score_tables.INDEX, *recipe.scorers)
    ]
    if texts is None:
        lists = {
            name: made.store.get_parsed(item["key"], partial(parse_list, name, url=name))
            for name, item in document["lists"].items()
        }
    else:
        lists = {name: parse_list(name, text, name) for name, text in texts.items()}
    others = open_others([item.filter for item in recipe.filters], made.store.url, options, document.against)
    with local_disk("temporary files"), tempfile.TemporaryDirectory(prefix="tutelage-") as spool:
        scored = Ledger(document.scores_at(made.store))
        aside = unreadable.read_list(made.store, document.unreadable) if aside is None else aside
        yield Pipeline(recipe, Path(spool), corpus, out, scored, columns, lists, others, dict(aside))


def lacked_columns(units: pa.Table) -> list[str]:
    """The columns that some of these units lack."""
    return sorted(pc.unique(pc.list_flatten(units.column("lacks").combine_chunks())).to_pylist())


def lacking_units(units: Iterable[tuple[ShardRef, Sequence[str]]]) -> pa.Table:
    """Units and the columns that they lack as Arrow, a page of Python objects at a time."""
    tables, rows = [], ((*shard, names) for shard, names in units)
    while page := list(islice(rows, 10_000)):
        columns = (pa.array(c, t) for c, t in zip(zip(*page, strict=True), UNITS_SCHEMA.types, strict=True))
        tables.append(pa.Table.from_arrays(list(columns), schema=UNITS_SCHEMA))
    return pa.concat_tables(tables) if tables else UNITS_SCHEMA.empty_table()
