"""The choices of another run, step by step: a data policy, paid for once, trains learners of every size.

When to use: the same data with another learner. No other model runs, so it costs as much as uniform training.
The policy is read from `<run>/policy`; `curation.selection.policy_replay` trains on it. Source: 2312.05328, section 5.
"""

from __future__ import annotations

from dataclasses import dataclass

from curation.selectors.uniform import Uniform


@dataclass(frozen=True, kw_only=True)
class Replay(Uniform):
    """The sub-batches of the run at the URL `run`, whichever selector chose them.

    When to use: the same data, another learner. Cost: none; nothing is scored. Source: 2312.05328, section 5.
    Example: replay: {run: s3://runs/learnability}
    """

    run: str

    def __post_init__(self) -> None:
        if not self.run:
            raise ValueError("run is empty: name the folder of a run of `curate learn`")

    def replayed_run(self) -> str:
        return self.run
