"""Corpora: the shards that match a recipe's patterns, listed at one moment and sorted by key.

A pattern is the URL of one tar, a URL with braces (`{00000..01287}`, `{a,b}`), `*` or `?`, a directory (every `.tar`
below it), or a snapshot (`URL@7`, `URL@latest`). All patterns of a corpus are in one store. Keys are relative to the
deepest directory that the patterns share, so a copy of a corpus keeps its units, uids and scores. When the shared
directory changes, they change: `pool/{a}/*.tar` can become `pool/{a,b}/*.tar`, but `pool/a` can't become `[pool/a,
pool/b]`.

Listings arrive in any order. More than 10,000 shards are sorted by DuckDB on disk, in constant memory and about 100
bytes of disk a shard.

A dataset below the corpus' root is never input: a run would read the output of an earlier run, and samples would double
with every run. `expect_outside` rejects an output there. A listing leaves out shards named like a ledger's
(`<unit>-<sha>-<nonce>.tar`) in any folder, and links to them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.core.errors import EmptyCorpusError, NotFoundError, RecipeError
from curation.core.parallel import map_ordered
from curation.dataset.patterns import matcher
from curation.ledger.ledger import Ledger
from curation.storage.store import ObjectInfo, Store, StoreOptions, open_store
from curation.storage.tables import connect, insert, local_disk

LeftOut = Callable[[int, str], None]  # called with the number of shards left out, and the URL of one

_SNAPSHOT = re.compile(r"(.+)@(\d+|latest)\Z")
_OUTPUT = re.compile(r"[0-9a-f]{64}-[0-9a-f]{16}[^/]*\.tar")  # <unit>-<sha>-<nonce>.tar, or a copy of such a name


@dataclass(frozen=True)
class Corpus:
    """Patterns below one root, or a snapshot of a dataset. A plan pins the shards of `listing`."""

    root: str
    patterns: tuple[str, ...]  # relative to root; "" is the whole root
    snapshot: int | None = None
    options: StoreOptions | None = None

    def store(self) -> Store:
        """Open the store at the root."""
        return open_store(self.root, self.options)

    def to_json(self) -> dict[str, Any]:
        """The corpus as a plan records it."""
        return {"root": self.root, "patterns": list(self.patterns), "snapshot": self.snapshot}

    def listing(
        self, spool: Path, left_out: LeftOut = lambda shards, example: None, *, copies: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """Yield the shards as Arrow batches of (key, size in bytes, etag), sorted by key.

        `spool`: a local folder for the sort. `left_out`: called with the number of output shards of datasets among the
        matches and the URL of one, if there are any. `copies`: whether output shards in a folder not named `data` are
        input. Raises `EmptyCorpusError` when no shard matches or remains, `RecipeError` when the pattern names a
        dataset.
        """
        tables = self._unsorted(left_out, copies)
        first, second = next(tables), next(tables, None)
        if not first.num_rows:
            where = ", ".join(self.patterns) or "*.tar"
            fix = "check the corpus URL; shard names end in .tar"
            raise EmptyCorpusError(f"no shard matches {where} in {self.root}", fix=fix)
        if second is None:  # without DuckDB, whose import is a tenth of what a run with nothing to do costs
            rows = zip(*(column.to_pylist() for column in first.columns), strict=True)
            yield from _table(sorted(set(rows))).to_batches()
        else:
            yield from _sorted_on_disk(chain([first, second], tables), spool)

    def expect_outside(self, places: Mapping[str, Store]) -> None:
        """Raise `RecipeError` when the patterns match objects that a run writes to its output or score store.

        `places`: these stores, by their keys in the recipe. Symbolic links of local disks are followed.
        """
        if self.snapshot is not None:
            return
        root, wanted = _real(self.root), matcher(self.patterns)
        for name, store in places.items():
            place = _real(store.url)
            if f"{root}/".startswith(f"{place}/data/"):
                raise _of_a_dataset(self.root, place)
            if place != root and not place.startswith(root.rstrip("/") + "/"):
                continue
            folder = place[len(root) :].strip("/")
            below = f"{folder}/data/" if folder else "data/"
            if any(wanted(f"{below}{c * 64}-{c * 16}-{c * 8}.tar") for c in "0123456789abcdef"):
                raise RecipeError(
                    f"{name}: {store.url} is inside the corpus {self.root}, so a run would read its own output",
                    fix=f"choose a location outside the corpus, such as {self.root.rstrip('/')}-curated, or a pattern "
                    f"that does not match it, such as {self.root.rstrip('/')}/*.tar",
                )

    def _unsorted(self, left_out: LeftOut, copies: bool) -> Iterator[pa.Table]:
        """Yield the matching objects in any order, up to 10,000 at a time; an empty table if there are none."""
        if self.snapshot is not None:
            yield self._of_snapshot()
            return
        store = self.store()
        if self.patterns == ("",) and Ledger(store).latest():
            fix = f"to curate a curated dataset further, name {self.root}@latest"
            raise RecipeError(f"{self.root} is a curated dataset, not a corpus", fix=fix)
        wanted = matcher(self.patterns)
        rows: list[ObjectInfo] = []
        foreign, any_left, example, given = 0, False, "", False
        for item in chain.from_iterable(store.list(folder, etags=False) for folder in _folders(self.patterns)):
            if not item.key.endswith(".tar") or not wanted(item.key):
                continue
            if _is_output(store.location(item.key), copies):
                self._expect_not_meant(item.key)
                foreign, example = foreign + 1, example or store.location(item.key)
                continue
            any_left = True
            rows.append(item)
            if len(rows) == 10_000:
                yield _table(_with_etags(store, rows))
                rows, given = [], True
        if rows or not given:
            yield _table(_with_etags(store, rows))
        if foreign and not any_left:
            raise _nothing_but_outputs(example, foreign)
        if foreign:
            left_out(foreign, example)

    def _expect_not_meant(self, key: str) -> None:
        """Raise `RecipeError` when a pattern names the data folder of a dataset, of which `key` is a shard."""
        for pattern in self.patterns:
            place = f"{self.root}/{pattern}".rstrip("/")
            folder = place.rpartition("/")[0] if place.endswith(".tar") else place
            if folder.endswith("/data") and matcher((pattern,))(key):
                raise _of_a_dataset(place, f"{self.root}/{key}".rpartition("/data/")[0])

    def _of_snapshot(self) -> pa.Table:
        from curation.dataset.snapshot import open_snapshot

        store = self.store()
        heads = [store.head(key) for key in open_snapshot(self.root, self.snapshot, self.options).shard_keys()]
        return _table([(head.key, head.size, head.etag) for head in heads])


def _sorted_on_disk(tables: Iterable[pa.Table], spool: Path) -> Iterator[pa.RecordBatch]:
    """Yield the rows of all tables sorted by key, each once. Constant memory; about 100 bytes of disk a row."""
    path = spool / "listing.duckdb"
    try:
        with local_disk("listing the corpus", spool), connect(path, spill=spool) as db:
            db.execute("CREATE TABLE shards (key VARCHAR, size BIGINT, etag VARCHAR)")
            for table in tables:
                insert(db, "shards", table)
            yield from db.sql("SELECT DISTINCT * FROM shards ORDER BY key").to_arrow_reader(10_000)
    finally:
        path.unlink(missing_ok=True)


def left_out_message(root: str, shards: int, example: str) -> str:
    """One-line warning about `shards` shards of datasets below the corpus `root`, of which `example` is one."""
    return f"{shards:,} shards of curated datasets below {root} are not read as input, such as {example}"


def open_corpus(patterns: str | Sequence[str], options: StoreOptions | None = None) -> Corpus:
    """Find the root that all patterns share and return the corpus; nothing is listed yet.

    Raises `RecipeError` without patterns, and for patterns in different stores.
    """
    urls = [patterns] if isinstance(patterns, str) else list(patterns)
    if not urls:
        raise RecipeError("corpus has no patterns", fix="name at least one URL of shards")
    if len(urls) == 1 and (match := _SNAPSHOT.match(urls[0])):
        from curation.ledger.ledger import Ledger

        root = _absolute(match[1])
        number = Ledger(open_store(root, options)).latest() if match[2] == "latest" else int(match[2])
        return Corpus(root, (), number, options)
    split = [_split(_absolute(url)) for url in urls]
    roots = {root for root, _ in split}
    schemes = {root.split("://")[0] + root.split("://")[1].split("/")[0] for root in roots}
    if len(schemes) > 1:
        raise RecipeError("the corpus' patterns are in different stores", fix="run one recipe for each store")
    root = _common(sorted(roots))
    tails = tuple(sorted((r[len(root) :].strip("/") + "/" + tail).lstrip("/") for r, tail in split))
    return Corpus(root, tails, None, options)


def _absolute(url: str) -> str:
    """Convert a local path to an absolute file:// URL; leave a URL unchanged except for a slash at its end."""
    if "://" in url:
        return url.rstrip("/") if url.count("/") > 2 else url
    return "file://" + str(Path(url).expanduser().absolute())


def _split(url: str) -> tuple[str, str]:
    """Split a URL into (directory, pattern): the pattern starts at the first part with a wildcard or named .tar."""
    scheme, rest = url.split("://", 1)
    parts = rest.split("/")
    literal = 0
    while literal < len(parts) and not re.search(r"[*?\[{]", parts[literal]) and not parts[literal].endswith(".tar"):
        literal += 1
    tail = parts[literal:]
    return f"{scheme}://" + "/".join(parts[:literal]), "/".join(tail)


def _of_a_dataset(place: str, dataset: str) -> RecipeError:
    text = f"{place} names the data folder of a curated dataset, which has the shards of all its snapshots"
    return RecipeError(text, fix=f"to curate the dataset further, name {dataset}@latest")


def _is_output(url: str, copies: bool) -> bool:
    """Whether an object is an output shard of a curated dataset by its name, or a local symbolic link to one.

    `copies`: only in a folder named `data`.
    """
    folder, _, name = url.rpartition("/")
    if _OUTPUT.fullmatch(name):
        return not copies or folder.endswith("/data")
    path = Path(url.removeprefix("file://"))
    if copies or not url.startswith("file://") or not path.is_symlink():
        return False
    return _OUTPUT.fullmatch(path.resolve().name) is not None


def _nothing_but_outputs(url: str, shards: int) -> EmptyCorpusError:
    folder = os.path.realpath(url.removeprefix("file://")).rpartition("/")[0] if url.startswith("file://") else ""
    dataset = folder.removesuffix("/data") if folder.endswith("/data") else "DATASET"
    text = f"all {shards:,} shards that match the corpus are output shards of curated datasets, such as {url}"
    fix = f"to curate a dataset further, name {dataset}@latest; to read a copy of one, rename its files"
    return EmptyCorpusError(text, fix=fix)


def _real(url: str) -> str:
    """URL of a store without a slash at its end; for a local directory, with symbolic links resolved."""
    scheme, _, rest = open_store(url).url.partition("://")
    return f"{scheme}://{os.path.realpath(rest) if scheme == 'file' else rest}".rstrip("/")


def _common(roots: Sequence[str]) -> str:
    parts = [root.split("/") for root in roots]
    depth = 0
    while all(len(p) > depth and p[depth] == parts[0][depth] for p in parts):
        depth += 1
    return "/".join(parts[0][:depth])


def _folders(patterns: Sequence[str]) -> list[str]:
    """Directories below the root that contain all matches; no directory is inside another."""
    found: list[str] = []
    for folder in sorted({re.split(r"[*?\[{]", pattern)[0].rpartition("/")[0] for pattern in patterns}):
        if not any(above == "" or f"{folder}/".startswith(f"{above}/") for above in found):
            found.append(folder)
    return found


def _with_etags(store: Store, items: Sequence[ObjectInfo]) -> list[tuple[str, int, str]]:
    """(key, size, etag) of each object; deleted ones are left out.

    A local listing has no etags: the matching files are hashed here.
    """

    def one(item: ObjectInfo) -> tuple[str, int, str] | None:
        try:
            found = item if item.etag else store.head(item.key)
        except NotFoundError:
            return None
        return found.key, found.size, found.etag

    hashed = any(not item.etag for item in items)
    return [row for row in (map_ordered(one, items, threads=4) if hashed else map(one, items)) if row is not None]


def _table(rows: Sequence[tuple[str, int, str]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    types = (pa.string(), pa.int64(), pa.string())
    return pa.table(
        dict(zip(("key", "size", "etag"), (pa.array(c, t) for c, t in zip(columns, types, strict=True)), strict=True))
    )
