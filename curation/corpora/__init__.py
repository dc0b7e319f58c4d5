"""Real corpora for demos, benches and tests: installed packages in, WebDataset shards out.

A corpus is one module with a function `build`, a `CorpusBuilder`, and one line in the table. `builder` imports the
module, so that reading the table costs nothing. `label_noise` plants wrong labels in a labelled corpus, `planted_cause`
a mark with a wrong label.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from curation.core.progress import Tick

if TYPE_CHECKING:
    from curation.storage.store import Store

CORPORA = {
    "openmoji-icons": "28,000 emoji, icons and logos with names in 14 languages (OpenMoji, Phosphor, Tabler, "
    "Simple Icons, Octicons)",
}

#: Shows progress in a block: called with a label and a total, as `curation.core.progress.progress` is.
ProgressDisplay = Callable[[str, int], AbstractContextManager[Tick]]


@dataclass(frozen=True)
class BuildResult:
    """A finished corpus. `fresh` is False if it existed already, so that nothing was written."""

    url: str
    fresh: bool
    samples: int
    bytes: int
    shards: list[dict[str, Any]]  # key, sha256, size, samples
    counts: dict[str, Any]


class CorpusBuilder(Protocol):
    """Builds one corpus. The bytes depend on the packages, `limit`, `samples_per_shard` and `seed` alone."""

    def __call__(
        self,
        store: Store,
        *,
        limit: int | None = None,
        samples_per_shard: int = 1000,
        workers: int = 2,
        seed: int = 0,
        progress: ProgressDisplay = ...,
    ) -> BuildResult: ...


def builder(name: str) -> CorpusBuilder:
    """Return the builder of a corpus in the table. `name`: one of its keys."""
    build: CorpusBuilder = import_module(f"curation.corpora.{name.replace('-', '_')}").build
    return build


__all__ = [
    "CORPORA",
    "BuildResult",
    "builder",
    "label_noise",
    "planted_cause",
]
