"""The settings of one CLIP training: its data, its model, and the folder of its results."""

from __future__ import annotations

from dataclasses import dataclass

from curation.core.origins import TRUSTED
from curation.learners.training import Training
from curation.storage.store import StoreOptions


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """One training. `data`, `pool`, `evaluation` and `out` are URLs."""

    data: str
    model: str
    out: str
    training: Training
    pool: str | None = None  # half of each batch is drawn from here: the objective `dfn`
    holdout: float = 0.05  # share of the names, from 0 to 0.5
    evaluation: str | None = None  # other data to evaluate on; None: the held-out part of `data`
    evaluated: bool = True  # False: the caller evaluates
    streamed: bool = False  # from shards, even if the samples fit into memory: like the models it is compared with
    shared: bool = False  # `out` is named by everything that determines the weights, and other processes may write it
    device: str = "auto"
    threads: int = 0  # 0: one a core, at most 8
    weighted: bool = True  # samples of a snapshot are drawn as often as their weight in the manifest
    origins: tuple[str, ...] = TRUSTED  # of the samples to evaluate on, and of those that classifiers of folds judge
    force: bool = False  # train again where a card exists
    options: StoreOptions | None = None

    @property
    def sources(self) -> dict[str, str]:
        """The URLs that it trains on, by name: `data`, and `pool` if there is one."""
        return {"data": self.data} | ({"pool": self.pool} if self.pool else {})
