"""How good a dataset is: small models trained on it and on its source, judged on held-out samples.

`evaluate` runs a whole evaluation, `protocol` fixes what its models share, `trials` trains and judges one of them,
`training` trains one CLIP. Runs of online selection are in `curation.learning`. Imports `learning` and below.
"""

__all__ = [
    "card",
    "evaluate",
    "job",
    "training",
]
