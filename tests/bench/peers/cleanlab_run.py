"""cleanlab's label-quality scores of labels and probabilities.

    python tests/bench/peers/cleanlab_run.py GIVEN.npz FOUND.npz METHOD...

GIVEN has `labels` (int [N]) and `posterior` ([N, K]); FOUND gets the scores of each method of
`cleanlab.rank.get_label_quality_scores`, low for labels that look wrong.
"""

from __future__ import annotations

import sys

import numpy as np
from cleanlab.rank import get_label_quality_scores

given, found, *methods = sys.argv[1:]
with np.load(given) as read:
    labels, posterior = read["labels"], read["posterior"]
np.savez(found, **{name: get_label_quality_scores(labels, posterior, method=name) for name in methods})
