"""Tutelage's library: curate corpora in this process, and open curated datasets. Imports no Ray.

    import curation as cu
    cu.curate("recipe.yaml")                              # as `curate run`: the snapshot
    cu.what_if("recipe.yaml", ["filters.top_fraction.fraction=0.1,0.2"])
    cu.verify("s3://curated/everyday-objects")            # what differs: [] for a sound snapshot
    snapshot = cu.open("s3://curated/everyday-objects")

Names load when they are first used, so that `import curation` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curation.core.errors import TutelageError
    from curation.core.types import Sample, ShardRef, Source
    from curation.curating.run import RunOptions, curate
    from curation.curating.verification.verify import verify
    from curation.curating.what_if_questions import what_if
    from curation.dataset.diff import diff
    from curation.dataset.snapshot import Snapshot, open
    from curation.evaluation.evaluate import evaluate
    from curation.learning.learn import learn
    from curation.recipes.curation_recipe import Recipe, load_recipe
    from curation.recipes.learning_recipe import LearnRecipe, load_learn_recipe
    from curation.storage.store import StoreOptions

__all__ = [
    "LearnRecipe",
    "Recipe",
    "RunOptions",
    "Sample",
    "ShardRef",
    "Snapshot",
    "Source",
    "StoreOptions",
    "TutelageError",
    "curate",
    "diff",
    "evaluate",
    "learn",
    "load_learn_recipe",
    "load_recipe",
    "open",
    "verify",
    "what_if",
]

_HOMES = {
    "LearnRecipe": "curation.recipes.learning_recipe",
    "Recipe": "curation.recipes.curation_recipe",
    "RunOptions": "curation.curating.run",
    "Sample": "curation.core.types",
    "ShardRef": "curation.core.types",
    "Snapshot": "curation.dataset.snapshot",
    "Source": "curation.core.types",
    "StoreOptions": "curation.storage.store",
    "TutelageError": "curation.core.errors",
    "curate": "curation.curating.run",
    "diff": "curation.dataset.diff",
    "evaluate": "curation.evaluation.evaluate",
    "learn": "curation.learning.learn",
    "load_learn_recipe": "curation.recipes.learning_recipe",
    "load_recipe": "curation.recipes.curation_recipe",
    "open": "curation.dataset.snapshot",
    "verify": "curation.curating.verification.verify",
    "what_if": "curation.curating.what_if_questions",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'curation' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
