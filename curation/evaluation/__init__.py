"""Evaluation of a dataset: small models, trained on it and on its source, are judged on held-out samples.

`evaluate` runs a whole evaluation, `protocol` fixes the settings that its models share, `trials` trains and judges one
of them, `training` trains one CLIP. Runs of online selection are in `curation.learning`. Imports `learning` and below.
"""

__all__ = [
    "card",
    "evaluate",
    "fold_training",
    "job",
    "training",
]
