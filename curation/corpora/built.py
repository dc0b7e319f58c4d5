"""What every corpus of the room gives: its place and what it holds."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from curation.storage.store import Store


@dataclass(frozen=True)
class BuildResult:
    """A corpus in its place. `fresh` is False if it was there already and nothing was done."""

    url: str
    fresh: bool
    samples: int
    bytes: int
    shards: list[dict[str, Any]]  # key, sha256, size, samples
    counts: dict[str, Any]


Progress = Callable[
    [str, int], AbstractContextManager[Callable[[int], None]]
]  # (label, total) -> advance, as curation.core.progress


class Build(Protocol):
    """The signature that every corpus of the room has."""

    def __call__(
        self,
        store: Store,
        *,
        limit: int | None = None,
        samples_per_shard: int = 1000,
        workers: int = 2,
        seed: int = 0,
        progress: Progress = ...,
    ) -> BuildResult: ...
