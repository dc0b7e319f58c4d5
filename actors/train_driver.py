"""Ray Train's driver as an actor, so that it can be cancelled.

`TorchTrainer.fit` blocks until the learners end. In a thread of the command it would still wait when the command ends
and shuts Ray down, which crashes the process. An actor can be killed, and its learners, which it owns, die with it
within moments.

This file imports no models: the learners receive their work as a reference.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any


class TrainDriver:
    """The driver. Start it on the node of the command, so that both are lost together."""

    def fit(
        self, work: list[Any], learners: int, resources: Mapping[str, float], max_failures: int, folder: str,
        environment: Mapping[str, str],
    ) -> None:  # fmt: skip
        """Call `work` in every learner. Raises `TrainingFailedError` after more than `max_failures` failures.

        work: one reference to a function, in a list, which Ray does not resolve. resources: of each learner.
        folder: for Ray Train's own files, which are never read; `curation.selection.checkpoint` writes the checkpoints.
        environment: the command's settings of Ray Train, which reads them in this process.
        """
        os.environ.update(environment)
        os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
        os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"  # a recipe's paths are relative to the command's folder
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # Ray's 2 s delay the end of every run
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        gpus = resources.get("GPU", 0) > 0
        TorchTrainer(
            _loop, train_loop_config={"work": work},
            scaling_config=ScalingConfig(num_workers=learners, use_gpu=gpus, resources_per_worker=dict(resources)),
            run_config=RunConfig(
                name="learn", storage_path=folder, failure_config=FailureConfig(max_failures=max_failures)
            ),
        ).fit()  # fmt: skip


def _loop(config: Mapping[str, Any]) -> None:
    from actors.waiting import get

    work: Callable[[], None] = get(config["work"][0])
    work()
