"""A recipe with its stores open: the values that every step of a curation run reads.

Opening resolves each URL of the recipe once, fetches pinned files and reads lists; it costs a small GET each and two
probes of the stores. The steps are functions of a `Pipeline`: `planning`, `scoring_passes`, `plan_decision`,
`snapshot_making`; `run` calls them in order.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from curation.core.errors import locating
from curation.core.executor import Executor
from curation.core.types import ShardRef
from curation.curating.added_samples import MarkedShard, pin_shards
from curation.curating.compared_snapshots import ComparedSnapshots, open_others
from curation.curating.scoring.efficiency import StageSeconds
from curation.dataset import snapshot
from curation.dataset.corpus import Corpus, open_corpus
from curation.ledger import score_tables, unreadable
from curation.ledger.edit_lists import EditList, read_edit_list
from curation.ledger.ledger import Ledger
from curation.ledger.plans import Plan
from curation.ledger.recipe_edits import RecipeEdits, adds_samples, list_name, merged, parse_named, place_of
from curation.ledger.uid_lists import UidList, read_list
from curation.recipes.curation_recipe import Recipe, parse_recipe
from curation.scorers import imports_of
from curation.storage.pinned_file import PinnedFile
from curation.storage.probe import probe
from curation.storage.store import StoreOptions, open_store
from curation.storage.tables import local_disk


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
    """A recipe with its stores open. Use `pipeline(recipe)`, which probes them and pins the weights.

    pins: the marked shards of the snapshot that is checked; None: as they are now.
    """

    recipe: Recipe
    spool: Path
    corpus: Corpus
    out: Ledger
    scored: Ledger
    columns: Sequence[score_tables.Column]  # the index, then one a scorer
    lists: Mapping[str, UidList | EditList]  # keep, drop, weights and edit lists, by name in the snapshot's document
    others: ComparedSnapshots  # the snapshots that filters compare with
    unreadable: dict[ShardRef, str] = field(default_factory=dict)  # shards that are set aside, and why
    left_out: dict[str, Any] = field(default_factory=dict)  # shards of datasets below the corpus: how many, and one
    unknown_edits: int = 0  # uids of edits that no sample of the corpus has
    counts: RunCounts = field(default_factory=RunCounts)
    stages: StageSeconds = field(default_factory=StageSeconds)  # where the time of scoring workers went
    checked: bool = False  # `check_weights` was called, so workers need not do it
    pins: Sequence[MarkedShard] | None = None
    software: dict[str, dict[str, str]] = field(default_factory=dict)  # of other nodes: digest -> package -> version

    @property
    def fingerprints(self) -> dict[str, str]:
        return {column.name: column.fingerprint for column in self.columns}

    @cached_property
    def edits(self) -> RecipeEdits:
        """The merged lists. Raises `ContradictingEditsError`."""
        return merged(self.lists, list_urls(self.recipe), last_wins=self.recipe.last_wins)

    @cached_property
    def marked(self) -> Sequence[MarkedShard]:
        """The shards from which edits add samples, pinned. Costs a HEAD each, once."""
        if self.pins is not None:
            return self.pins
        if not any(isinstance(item, EditList) and adds_samples(item) for item in self.lists.values()):
            return []
        return pin_shards(self.edits.adds, self.recipe.options) if self.edits.adds.num_rows else []


@contextmanager
def pipeline(recipe: Recipe, *, dry: bool = False, executor: Executor | None = None) -> Iterator[Pipeline]:
    """Open a recipe's stores. Refuses, before any work: unsafe stores, missing or wrong weights, bad lists.

    dry: write nothing. executor: its workers are warmed while the stores are opened and the plan is made, if there
    will be work for them: the output has no snapshot yet.
    """
    out, scored = (Ledger(open_store(url, recipe.options)) for url in (recipe.output, recipe.scores))
    if executor is not None and not out.latest():
        executor.warm(worker_modules(recipe))
    _check_files(recipe.files(), recipe.options)
    corpus = open_corpus(recipe.corpus, recipe.options)
    corpus.expect_outside({"output": out.store, "scores": scored.store})
    lists = read_lists(recipe)
    filters = [item.filter for item in recipe.filters]
    others = open_others(filters, recipe.output, recipe.options)
    others.expect(filters, recipe.columns)
    if not dry:
        probe(out.store)
        probe(scored.store)
    with local_disk("temporary files"), tempfile.TemporaryDirectory(prefix="tutelage-") as spool:
        yield Pipeline(recipe, Path(spool), corpus, out, scored, recipe.columns, lists, others)


def list_urls(recipe: Recipe) -> dict[str, str]:
    """Return the URLs of the lists that a recipe names, by their names in a snapshot's document."""
    short = {"keep": recipe.keep, "drop": recipe.drop, "weights": recipe.weights}
    urls = {name: url for name, url in short.items() if url}
    return urls | {list_name(n): url for n, url in enumerate(recipe.edit_lists)}


def read_lists(recipe: Recipe) -> dict[str, UidList | EditList]:
    """Read the lists that a recipe names, by their names in a snapshot's document. Raises `UserError`."""
    return {
        name: read_list(name, url, recipe.options) if place_of(name) is None else read_edit_list(url, recipe.options)
        for name, url in list_urls(recipe).items()
    }


def worker_modules(recipe: Recipe) -> list[str]:
    """Return the modules that a recipe's workers import and that take long: 2 CPU seconds where it has a proxy."""
    found = {name: None for scorer in recipe.scorers.values() for name in imports_of(scorer)}
    return ["curation.curating.scoring.unit_scorer", *found]


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
            name: made.store.get_parsed(item["key"], partial(parse_named, name, url=name))
            for name, item in document["lists"].items()
        }
    else:
        lists = {name: parse_named(name, text, name) for name, text in texts.items()}
    others = open_others([item.filter for item in recipe.filters], made.store.url, options, document.against)
    with local_disk("temporary files"), tempfile.TemporaryDirectory(prefix="tutelage-") as spool:
        scored = Ledger(document.scores_at(made.store))
        aside = unreadable.read_list(made.store, document.unreadable) if aside is None else aside
        pins = [MarkedShard(**pin.to_json()) for pin in document.added.shards] if document.added else []
        yield Pipeline(recipe, Path(spool), corpus, out, scored, columns, lists, others, dict(aside), pins=pins)
