"""The settings of a training that every kind of learner shares."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from curation.core.ranges import LARGEST_FLOAT, check, check_count, check_seed
from curation.models.model_outputs import PairwiseLoss

MOST_SIDE = 4096  # pixels: the largest side of a picture that a model is given


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of one training. Equal settings, data, machine and number of threads give equal weights.

    Raises `ValueError`, which names the field, for a value outside of its range.
    """

    steps: int = 400  # updates
    batch: int = 128  # samples of an update
    lr: float = 2e-3  # the highest learning rate
    warmup: float = 0.1  # share of the steps
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    max_norm: float = 1.0  # gradients with a larger norm are scaled down to it; 0 scales none
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    loss: PairwiseLoss = "softmax"  # of a contrastive learner
    schedule: Literal["cosine", "constant"] = "cosine"
    averaging: float = 0.0  # decay of the moving average of the weights, such as 0.999; 0 keeps no average
    micro_batch: int = 0  # samples that are encoded at once; 0 encodes the whole batch
    compile: bool = False  # with torch.compile: minutes at the start, and other rounding
    scoring_size: int = 0  # side in pixels at which candidates are scored; 0: the size of training
    reduced: float = 0.0  # share of each batch that is trained on at `scoring_size`, so that the model can score there

    def __post_init__(self) -> None:
        check_count("steps", self.steps, "it is the number of updates", least=1)
        check_count("batch", self.batch, "it is the number of samples of an update", least=1)
        check_count("micro_batch", self.micro_batch, "0 encodes the whole batch at once")
        check("scoring_size", self.scoring_size, "it is a side in pixels, 0 that of training", least=0, most=MOST_SIDE)
        check_seed(self.seed)
        for name, good, what in (
            ("lr", 0 < self.lr <= LARGEST_FLOAT, "above 0 and a number of float32"),
            ("warmup", 0 <= self.warmup <= 1, "a share from 0 to 1"),
            ("weight_decay", 0 <= self.weight_decay <= LARGEST_FLOAT, "at least 0 and a number of float32"),
            ("betas", len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas), "two of 0 to less than 1"),
            ("eps", 0 < self.eps <= LARGEST_FLOAT, "above 0 and a number of float32"),
            ("max_norm", 0 <= self.max_norm <= LARGEST_FLOAT, "at least 0; 0 is no limit"),
            ("averaging", 0 <= self.averaging < 1, "at least 0 and less than 1"),
            ("reduced", 0 <= self.reduced <= 1, "a share from 0 to 1"),
        ):
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)}: it is {what}")
        if self.reduced and not self.scoring_size:
            raise ValueError(f"reduced is {self.reduced}, but there is no scoring_size to reduce pictures to")

    def rate(self, step: int) -> float:
        """Return the learning rate of update `step`, counted from 0.

        A linear warm-up, then half a cosine down to zero, or a constant. Source: CLIP (2103.00020), section 2.5.
        """
        warmup = max(1, round(self.warmup * self.steps))
        if step < warmup:
            return self.lr * (step + 1) / warmup
        if self.schedule == "constant":
            return self.lr
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.steps - warmup)))
