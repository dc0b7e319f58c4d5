"""Which samples are held out: by a hash, so the same ones for every corpus, run and machine, without a list of them.

What is held out together (a *group*) is all samples of one name, for the same picture returns under one name in several
weights and packs, and a split by sample would leak it. Of samples without a name, all with the same bytes of their
picture are a group, whatever their captions: an exact duplicate never lies on both sides.

A picture with two names lies on both sides where these do. Nothing but a list of all pictures could tell; `curate
evaluate` counts those that flatter a figure, and the filter `exact_duplicates` removes them beforehand.
"""

from __future__ import annotations

from hashlib import sha256

HOLDOUT_RULE = 2  # raise it with the rule: it is part of what names figures and runs. 1: without a name, by uid


def group_of(name: str, image: bytes) -> str:
    """What is held out together with a sample: all of one `name`, else all with the bytes of its picture.

    Cost: 1 ms a megabyte of a picture without a name.
    """
    return group_of_name(name) or content_of(image)


def group_of_name(name: str) -> str:
    """The group of all samples of one name, case and punctuation aside; "" for none."""
    return " ".join("".join(c if c.isalnum() else " " for c in name.casefold()).split())


def content_of(image: bytes) -> str:
    """The content hash of a picture, as the index and the manifest have it."""
    return sha256(image).hexdigest()[:32]


def is_held_out(group: str, share: float) -> bool:
    """Whether `group` belongs to the held-out `share`, by its hash."""
    return int.from_bytes(sha256(group.encode()).digest()[:8], "big") < share * 2**64
