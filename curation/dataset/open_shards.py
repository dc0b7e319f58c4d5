"""Shards of a corpus or of a snapshot, listed by URL for training."""

from __future__ import annotations

import logging
import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from curation.core.printable import printable
from curation.core.types import ShardRef
from curation.dataset.corpus import Corpus, left_out_message, open_corpus
from curation.dataset.loader import ListedShard
from curation.dataset.snapshot import open_snapshot
from curation.ledger.ledger import Ledger
from curation.storage.store import StoreOptions, open_store


def latest_of(url: str, options: StoreOptions | None = None) -> str:
    """Return `URL@latest` for the URL of a curated dataset; any other URL, and `URL@7`, unchanged."""
    if any(sign in url for sign in "*{") or url.endswith(".tar") or re.search(r"@(\d+|latest)\Z", url):
        return url
    is_dataset = Ledger(open_store(url, options)).latest() > 0
    return f"{url.rstrip('/')}@latest" if is_dataset else url


def open_shards(url: str, options: StoreOptions | None = None) -> list[ListedShard]:
    """Return the shards of a corpus (a directory or a pattern of tars) or of a snapshot (`URL`, `URL@7`, `URL@latest`).

    See `list_shards`.
    """
    corpus = open_corpus(latest_of(url, options), options)
    if corpus.snapshot is not None:
        return open_snapshot(corpus.root, corpus.snapshot, options).loader_shards()
    return list_shards(corpus)


def list_shards(corpus: Corpus) -> list[ListedShard]:
    """Return the shards of a bare corpus, sorted by key.

    Logs a warning, once a process, about datasets below the corpus, which are left out.
    """
    store = corpus.store()

    def left_out(shards: int, example: str) -> None:
        _warn_once(left_out_message(corpus.root, shards, example))

    with TemporaryDirectory() as spool:
        rows = [row for batch in corpus.listing(Path(spool), left_out, copies=True) for row in batch.to_pylist()]
    return [ListedShard(store, ShardRef(row["key"], row["size"], row["etag"]), None) for row in rows]


@cache
def _warn_once(line: str) -> None:
    _log.warning("%s", printable(line))


_log = logging.getLogger(__name__)
