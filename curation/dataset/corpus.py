"""From a corpus' patterns to its shards, sorted by key, at one moment.

A pattern is a URL: of one tar, with braces (`{00000..01287}`, `{a,b}`), with `*` and `?`, of a directory (every `.tar`
below it), or of a snapshot (`URL@7`, `URL@latest`). All patterns of a corpus live in one store; keys are relative to
the deepest directory they share, so that a corpus that is copied elsewhere keeps its units, uids and scores. One whose
patterns come to share another directory doesn't: `pool/{a}/*.tar` can become `pool/{a,b}/*.tar`, `pool/a` can't become
`[pool/a, pool/b]`.

Listings arrive in any order and are sorted by DuckDB on disk: about 100 bytes of spool a shard, constant memory.

A dataset that lies below the corpus' root is not read as input: a run would read what an earlier one has written, and
its samples would double with every run. `expect_outside` refuses an output there, and a listing leaves out shards that
are named like those of a ledger (`<unit>-<sha>-<nonce>.tar`), in whatever folder: a copy of one, or a link to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
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

LeftOut = Callable[[int, str], None]  # told how many shards are left out, and the URL of one

_SNAPSHOT = re.compile(r"(.+)@(\d+|latest)\Z")
_OUTPUT = re.compile(r"[0-9a-f]{64}-[0-9a-f]{16}[^/]*\.tar")  # <unit>-<sha>-<nonce>.tar, also as a copy is named


@dataclass(frozen=True)
class Corpus:
    """Patterns below one root. `listing` is what the plan pins."""

    root: str
    patterns: tuple[str, ...]  # relative to root; "" is the whole root
    snapshot: int | None = None
    options: StoreOptions | None = None

    def store(self) -> Store:
        return open_store(self.root, self.options)

    def to_json(self) -> dict[str, Any]:
        return {"root": self.root, "patterns": list(self.patterns), "snapshot": self.snapshot}

    def listing(
        self, spool: Path, left_out: LeftOut = lambda shards, example: None, *, copies: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """The shards as sorted Arrow batches of (key, size, etag). `left_out` is called with the number of output
        shards of datasets among them and the URL of one, if there are any. `copies`: those that lie in a folder not
        named `data` are shards like others. Raises `EmptyCorpusError` when no shard is left."""
        path = spool / "listing.duckdb"
        try:
            with local_disk("listing the corpus", spool), connect(path, spill=spool) as db:
                db.execute("CREATE TABLE shards (key VARCHAR, size BIGINT, etag VARCHAR)")
                for batch in self._unsorted(left_out, copies):
                    insert(db, "shards", batch)
                if not db.execute("SELECT 1 FROM shards LIMIT 1").fetchall():
                    where = ", ".join(self.patterns) or "*.tar"
                    raise EmptyCorpusError(
                        f"no shard matches {where} in {self.root}", fix="check the corpus' URL; shards end in .tar"
                    )
                yield from db.sql("SELECT DISTINCT * FROM shards ORDER BY key").to_arrow_reader(10_000)
        finally:
            path.unlink(missing_ok=True)

    def expect_outside(self, places: Mapping[str, Store]) -> None:
        """Raise `RecipeError` for an output or a store of scores (by its key in the recipe) in which the patterns match
        what a run puts there. Links of local disks are followed."""
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
                    f"{name}: {store.url} lies inside the corpus {self.root}, so a run would read its own output",
                    fix=f"a place beside the corpus, such as {self.root.rstrip('/')}-curated; or a pattern that does "
                    f"not match it, such as {self.root.rstrip('/')}/*.tar",
                )

    def _unsorted(self, left_out: LeftOut, copies: bool) -> Iterator[pa.Table]:
        """Matching objects in any order, 10,000 at a time."""
        if self.snapshot is not None:
            yield self._of_snapshot()
            return
        store = self.store()
        if self.patterns == ("",) and Ledger(store).latest():
            fix = f"to curate a curated dataset further, write {self.root}@latest"
            raise RecipeError(f"{self.root} holds snapshots, not a corpus", fix=fix)
        wanted = matcher(self.patterns)
        rows: list[ObjectInfo] = []
        foreign, any_left, example = 0, False, ""
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
                rows = []
        yield _table(_with_etags(store, rows))
        if foreign and not any_left:
            raise _nothing_but_outputs(example, foreign)
        if foreign:
            left_out(foreign, example)

    def _expect_not_meant(self, key: str) -> None:
        """Raise `RecipeError` where a pattern names the data folder of a dataset, by one of its shards."""
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


def says_left_out(root: str, shards: int, example: str) -> str:
    """The line about shards of datasets that lie below a corpus."""
    return f"{shards:,} shards of curated datasets below {root} are not read as input, such as {example}"


def open_corpus(patterns: str | Sequence[str], options: StoreOptions | None = None) -> Corpus:
    """Find the root that all patterns share. Raises `RecipeError` when they lie in different stores."""
    urls = [patterns] if isinstance(patterns, str) else list(patterns)
    if not urls:
        raise RecipeError("corpus is empty", fix="name at least one URL of shards")
    if len(urls) == 1 and (match := _SNAPSHOT.match(urls[0])):
        from curation.ledger.ledger import Ledger

        root = _absolute(match[1])
        number = Ledger(open_store(root, options)).latest() if match[2] == "latest" else int(match[2])
        return Corpus(root, (), number, options)
    split = [_split(_absolute(url)) for url in urls]
    roots = {root for root, _ in split}
    schemes = {root.split("://")[0] + root.split("://")[1].split("/")[0] for root in roots}
    if len(schemes) > 1:
        raise RecipeError("the corpus' patterns lie in different stores", fix="run one recipe for each store")
    root = _common(sorted(roots))
    tails = tuple(sorted((r[len(root) :].strip("/") + "/" + tail).lstrip("/") for r, tail in split))
    return Corpus(root, tails, None, options)


def _absolute(url: str) -> str:
    """A URL as it is; a local path as an absolute file:// URL."""
    if "://" in url:
        return url.rstrip("/") if url.count("/") > 2 else url
    return "file://" + str(Path(url).expanduser().absolute())


def _split(url: str) -> tuple[str, str]:
    """(directory, pattern): everything before the first part that has a wildcard, or the last part of a .tar's URL."""
    scheme, rest = url.split("://", 1)
    parts = rest.split("/")
    literal = 0
    while literal < len(parts) and not re.search(r"[*?\[{]", parts[literal]) and not parts[literal].endswith(".tar"):
        literal += 1
    tail = parts[literal:]
    return f"{scheme}://" + "/".join(parts[:literal]), "/".join(tail)


def _of_a_dataset(place: str, dataset: str) -> RecipeError:
    text = f"{place} names the data folder of a curated dataset, which holds the shards of all its snapshots"
    return RecipeError(text, fix=f"to curate it further, write {dataset}@latest")


def _is_output(url: str, copies: bool) -> bool:
    """Whether an object is an output shard of a curated dataset, by its name, wherever it lies; a link on local disk:
    whether it leads to one. `copies`: only in a folder named `data`."""
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
    text = f"all {shards:,} shards that the corpus matches are output shards of curated datasets, such as {url}"
    fix = f"to curate a dataset further, write {dataset}@latest; a copy is read if its files have names of their own"
    return EmptyCorpusError(text, fix=fix)


def _real(url: str) -> str:
    """The URL of a store without a slash at its end; of a local directory, where its links lead."""
    scheme, _, rest = open_store(url).url.partition("://")
    return f"{scheme}://{os.path.realpath(rest) if scheme == 'file' else rest}".rstrip("/")


def _common(roots: Sequence[str]) -> str:
    parts = [root.split("/") for root in roots]
    depth = 0
    while all(len(p) > depth and p[depth] == parts[0][depth] for p in parts):
        depth += 1
    return "/".join(parts[0][:depth])


def _folders(patterns: Sequence[str]) -> list[str]:
    """The directories below the root in which all matches lie; none inside another."""
    found: list[str] = []
    for folder in sorted({re.split(r"[*?\[{]", pattern)[0].rpartition("/")[0] for pattern in patterns}):
        if not any(above == "" or f"{folder}/".startswith(f"{above}/") for above in found):
            found.append(folder)
    return found


def _with_etags(store: Store, items: Sequence[ObjectInfo]) -> list[tuple[str, int, str]]:
    """(key, size, etag) of each. Local files, whose listing has no etags, are hashed now, only those that match. Files
    that were deleted since are left out."""

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
