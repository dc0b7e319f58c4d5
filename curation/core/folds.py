"""The folds of cross-fitting, by a hash of a picture's bytes: the same on every machine, without a list.

Copies of one picture have one content hash (`holdout.content_of`) and so one fold, whatever their uids: a model that
trained on a copy never judges the picture. A run with another number has other folds, independent of these.
"""

from __future__ import annotations

from hashlib import sha256

FOLD_RULE = 1  # increment it with any change of the rule: files of fold classifiers record it


def fold_of(content: str, folds: int, run: int = 0) -> int:
    """Return the fold of a picture, from 0 to folds - 1: sha256 of `run` and its content hash, modulo `folds`."""
    return int.from_bytes(sha256(f"{run} {content}".encode()).digest()[:8], "big") % folds
