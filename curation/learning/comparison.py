"""A run beside the uniform run that its recipe names: what differs, and whether selection has paid for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import yaml

from curation.learning.data import Data
from curation.learning.summaries import curve_of, summary_sha256
from curation.recipes.learning_recipe import LearnRecipe, parse_learn_recipe
from curation.selection.flops import Payoff, Point, payoff

CAPTIONS = "trimmed"  # how a ledger counts captions; earlier versions counted the full context and recorded nothing


@dataclass(frozen=True)
class Comparison:
    """The named run's summary, and this run's recipe, data and room: samples of a window, None for a single one."""

    recipe: LearnRecipe
    data: Data
    room: int | None
    other: Mapping[str, Any]

    @cached_property
    def differs(self) -> list[str]:
        """The names of settings in which the named run is no uniform run of the same learner, `selection` first."""
        text = yaml.safe_dump(dict(self.other["recipe"]))
        theirs = parse_learn_recipe(text, "the recipe of the run that is compared with")
        found = ["selection"] if theirs.selection.selector.roles() or theirs.replay else []
        found += ["data"] if self.data.candidates.sha256 != self.other.get("candidates_sha256") else []
        found += ["held-out samples"] if self.data.held_out_sha256 != self.other.get("held_out_sha256") else []
        found += ["memory"] if self.room != self.other.get("room") else []
        wanted, had = asdict(self.recipe.learner), asdict(theirs.learner)
        found += [name for name, value in wanted.items() if had.get(name) != value]
        return found + [
            name
            for name in ("evaluation", "holdout", "weighted")
            if getattr(self.recipe, name) != getattr(theirs, name)
        ]

    @property
    def uncounted(self) -> list[str]:
        """What the named run's ledger doesn't count, a line each."""
        counted = self.other["flops"].get("captions") == CAPTIONS
        return [] if counted else [f"{self.recipe.compare} counts captions at their full context: run it again"]

    @property
    def same_held_out(self) -> bool:
        """Whether the qualities of both runs are figures of the same samples."""
        return not {"held-out samples", "holdout"} & set(self.differs)

    def standing(self, curve: Sequence[Point], uncounted: Sequence[str]) -> str:
        """Describe in a few words whether the run has reached the named run's quality, and paid."""
        if not self.same_held_out:
            return f" (judged on other samples than {self.recipe.compare})"
        found = payoff(curve, curve_of(self.other))
        arrived = "not yet" if found.updates is None else f"after {found.updates:,} steps"
        positive = verdict(compute_positive(found, uncounted))
        return f" ({found.target:.3f}: {arrived}, compute_positive: {positive})"

    def document(
        self, curve: Sequence[Point], uncounted: Sequence[str], elapsed: float, seconds: Mapping[str, float]
    ) -> dict[str, Any]:
        """Return `against` of the summary. elapsed: seconds of the whole run. seconds: on devices, by role."""
        found = payoff(curve, curve_of(self.other)) if self.same_held_out else None
        nothing = dict.fromkeys(Payoff.__dataclass_fields__)
        return {
            "run": self.recipe.compare,
            "sha256": summary_sha256(self.other),
            "differs": self.differs,
            **(nothing if found is None else asdict(found)),
            "compute_positive": None if found is None else compute_positive(found, uncounted),
            "seconds": {"this": elapsed, "compared": self.other["seconds"]},
            "device_seconds": {"this": sum(seconds.values()), "compared": sum(self.other["device_seconds"].values())},
        }


def compute_positive(found: Payoff, uncounted: Sequence[str]) -> bool | None:
    """Return whether the run was cheaper; None where uncounted compute may change the answer."""
    return None if found.compute_positive and uncounted else found.compute_positive


def verdict(positive: bool | None) -> str:
    """Return `compute_positive` as a word."""
    return "unknown" if positive is None else str(positive).lower()
