"""What another run chose, step by step: a data policy that was paid for once and trains learners of every size.

When to use: the same data, and another learner. No model is run besides it, so its compute is that of uniform training.
The policy is found at `<run>/policy`; `curation.selection.policy.replay` trains on it. Source: 2312.05328, section 5.
"""

from __future__ import annotations

from dataclasses import dataclass

from curation.selectors.uniform import Uniform


@dataclass(frozen=True, kw_only=True)
class Replay(Uniform):
    """The sub-batches of the run at the URL `run`, whatever made it choose them.

    When to use: the same data, another learner. Cost: none; nothing is scored. Source: 2312.05328, section 5.
    Example: replay: {run: s3://runs/learnability}
    """

    run: str

    def __post_init__(self) -> None:
        if not self.run:
            raise ValueError("run is empty: name the folder of a run of `curate learn`")
