"""Evaluation of a dataset: small models, trained on it and on its source, are judged on held-out samples.

`evaluate` runs a whole evaluation, `protocol` fixes the settings that its models share, `trials` trains and judges one
of them, `training` trains one CLIP. `label_evaluation` ranks models under several labellings of the same samples. Runs
of online selection are in `curation.learning`. Imports `learning` and below.
"""

__all__ = [
    "card",
    "evaluate",
    "fold_training",
    "job",
    "judges",
    "label_evaluation",
    "labellings",
    "training",
]
